"""How codebooks are used.

Shapes: N blocks, L codes of a block, K codes of all codebooks together.
"""

import torch
from torch import Tensor

from perceptio.interfaces.tokens import Codes


def code_counts(codes_NL: Tensor, written: Codes) -> Tensor:
    """How often each code of each codebook is written [K], one codebook after the other.

    Codes of a part of a block, as a tokenizer may have in training, are counted as those of one codebook.
    """
    sizes = written.codebook_sizes
    if len(sizes) > 1 and codes_NL.shape[1] == written.length:
        starts = [sum(sizes[: group.codebook]) for group in written.groups for _ in range(group.length)]
        codes_NL = codes_NL + torch.tensor(starts, device=codes_NL.device)
    return torch.bincount(codes_NL.flatten(), minlength=sum(sizes))


def code_usage(counts_K: Tensor) -> dict[str, float]:
    """From how often each of K codes was written: `codes_used`, and `perplexity`.

    Perplexity is exp of the entropy in nats: K where all are written alike, 1 where one alone is.
    """
    share_K = counts_K.double() / counts_K.sum()
    return {
        "codes_used": int((counts_K > 0).sum()),
        "perplexity": float(torch.special.entr(share_K).sum().exp()),
    }
