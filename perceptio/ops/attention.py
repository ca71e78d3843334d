"""Attention over a sequence layout (stop-gap)."""
import torch
from torch import Tensor
from torch.nn import functional as F
from perceptio.interfaces import SequenceLayout


def attention(q_BTQE: Tensor, k_BSGE: Tensor, v_BSGE: Tensor, layout: SequenceLayout) -> Tensor:
    if layout.lengths is not None:
        outs = []
        for q, k, v in zip(q_BTQE.split(layout.lengths, 1), k_BSGE.split(layout.lengths, 1), v_BSGE.split(layout.lengths, 1)):
            o = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=True, enable_gqa=True)
            outs.append(o.transpose(1, 2))
        return torch.cat(outs, 1)
    s = layout.max_keys
    t = q_BTQE.shape[1]
    limit = layout.past_B[:, None] + torch.arange(t)
    mask = torch.arange(s)[None, None] <= limit[..., None]
    o = F.scaled_dot_product_attention(q_BTQE.transpose(1, 2), k_BSGE[:, :s].transpose(1, 2), v_BSGE[:, :s].transpose(1, 2), attn_mask=mask[:, None], enable_gqa=True)
    return o.transpose(1, 2)
