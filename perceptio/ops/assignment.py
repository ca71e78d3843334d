"""One-to-one matching at the least cost, without leaving the device.

Shapes: N problems, n workers, k jobs, S = 2^n sets of workers.
"""

import torch
from torch import Tensor

MOST = 12
"""Maximum number of workers, because each job considers every set of them."""


@torch.no_grad()
def assigned(cost_Nnk: Tensor, real_Nk: Tensor) -> Tensor:
    """Return the job of each worker, with each real job assigned to one worker at the least sum of costs.

    The result is exact. Jobs are processed one after the other, keeping the least cost for every set of busy workers.
    Each step is one operation on all sets, so the host never waits for the device.

    Args:
        cost_Nnk: Finite costs; k <= n <= `MOST`.
        real_Nk: Which jobs must be assigned.

    Returns:
        Jobs [N, n] as numbers from 0 to k - 1; -1 for a worker without a job.
    """
    problems, workers, jobs = cost_Nnk.shape
    assert jobs <= workers <= MOST
    device = cost_Nnk.device
    bits_n = 1 << torch.arange(workers, device=device)
    sets_S1 = torch.arange(2**workers, device=device)[:, None]
    busy_Sn, without_Sn = (sets_S1 & bits_n) > 0, sets_S1 & ~bits_n

    least_NS = cost_Nnk.new_full((problems, 2**workers), torch.inf)
    least_NS[:, 0] = 0.0
    takers = []
    for job in range(jobs):
        cost_N1n, real_N1 = cost_Nnk[:, None, :, job], real_Nk[:, job, None]
        least_NSn = torch.where(busy_Sn, least_NS[:, without_Sn] + cost_N1n, torch.inf)
        new_NS, taker_NS = least_NSn.min(-1)
        least_NS = torch.where(real_N1, new_NS, least_NS)
        takers.append(torch.where(real_N1, taker_NS, -1))

    busy_N1 = least_NS.argmin(1, keepdim=True)
    job_Nn = torch.full((problems, workers), -1, device=device)
    for job in reversed(range(jobs)):
        takes_Nn = torch.arange(workers, device=device) == takers[job].gather(1, busy_N1)
        job_Nn = torch.where(takes_Nn, job, job_Nn)
        busy_N1 = busy_N1 & ~(takes_Nn * bits_n).sum(1, keepdim=True)
    return job_Nn
