"""Usage of codebooks.

Shapes: N blocks, L codes of a block, K codes of all codebooks together.
"""

import torch
from torch import Tensor

from perceptio.interfaces.tokens import Codes


def code_counts(codes_NL: Tensor, written: Codes) -> Tensor:
    """Return how often each code of each codebook occurs [K], one codebook after the other.

    Codes of only a part of a block, as from a tokenizer in training, count as codes of one codebook.
    """
    sizes = written.codebook_sizes
    if len(sizes) > 1 and codes_NL.shape[1] == written.length:
        starts = [sum(sizes[: group.codebook]) for group in written.groups for _ in range(group.length)]
        codes_NL = codes_NL + torch.tensor(starts, device=codes_NL.device)
    return torch.bincount(codes_NL.flatten(), minlength=sum(sizes))


def code_usage(counts_K: Tensor) -> dict[str, float]:
    """Return `codes_used` and `perplexity`, given how often each of K codes occurs.

    Perplexity is exp of the entropy in nats: K if all occur equally often, 1 if only one occurs.
    """
    share_K = counts_K.double() / counts_K.sum()
    return {
        "codes_used": int((counts_K > 0).sum()),
        "perplexity": float(torch.special.entr(share_K).sum().exp()),
    }
