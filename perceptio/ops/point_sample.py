"""Values of maps at points between pixels, and points where a mask is uncertain.

Shapes: N maps, h w (or H W) pixels, P points per map; a point is (x, y) in [0, 1], x to the right and y down.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def sample_points(maps_NHW: Tensor, points_NP2: Tensor) -> Tensor:
    """Return bilinear values [N, P] of maps at points; beyond the outermost pixel centers, the border value.

    A pixel's center is at ((column + 0.5) / width, (row + 0.5) / height).
    """
    grid_NP12 = points_NP2.to(maps_NHW.dtype)[:, :, None] * 2 - 1
    values_N1P1 = F.grid_sample(maps_NHW[:, None], grid_NP12, padding_mode="border", align_corners=False)
    return values_N1P1[:, 0, :, 0]


@torch.no_grad()
def uncertain_points(
    logits_Nhw: Tensor, num_points: int, *, oversample: float = 3.0, uncertain_share: float = 0.75
) -> Tensor:
    """Return random points [N, P, 2], most of them where logits are closest to 0.

    This is PointRend's sampling (arXiv 1912.08193), with Sa2VA's numbers as defaults.

    Args:
        logits_Nhw: Mask logits.
        num_points: Number of points per mask, P.
        oversample: Number of uniformly drawn candidates, as a multiple of P.
        uncertain_share: Share of P taken from the most uncertain candidates; the rest is uniform.
    """
    num_masks = len(logits_Nhw)
    num_uncertain = int(uncertain_share * num_points)
    num_candidates = max(int(oversample * num_points), num_uncertain)
    candidates_NQ2 = torch.rand(num_masks, num_candidates, 2, device=logits_Nhw.device)
    doubt_NQ = -sample_points(logits_Nhw.float(), candidates_NQ2).abs()
    chosen_NP = doubt_NQ.topk(num_uncertain, dim=1).indices
    chosen_NP2 = candidates_NQ2.gather(1, chosen_NP[..., None].expand(-1, -1, 2))
    uniform_NP2 = torch.rand(num_masks, num_points - num_uncertain, 2, device=logits_Nhw.device)
    return torch.cat([chosen_NP2, uniform_NP2], dim=1)
