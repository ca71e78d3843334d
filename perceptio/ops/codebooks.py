"""How a codebook is used."""

import torch
from torch import Tensor


def code_usage(counts_K: Tensor) -> dict[str, float]:
    """From how often each of K codes was written: `codes_used`, and `perplexity`.

    Perplexity is exp of the entropy in nats: K where all are written alike, 1 where one alone is.
    """
    share_K = counts_K.double() / counts_K.sum()
    return {
        "codes_used": int((counts_K > 0).sum()),
        "perplexity": float(torch.special.entr(share_K).sum().exp()),
    }
