"""What one process of several does; in a module of its own, so that a new process can import it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, distributed

from perceptio.tokenizers._autoencoder.quantizers import VectorQuantizer


@contextmanager
def process_group(rank: int, count: int, folder: str) -> Iterator[None]:
    """One of several processes that meet in a folder and part together.

    A process that leaves while another still answers takes the connection with it, and gloo's threads abort.
    """
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=count)
    yield
    distributed.barrier()
    distributed.destroy_process_group()


def train_quantizer(rank: int, latents: list[Tensor], folder: str) -> None:
    """Train a quantizer of four codes on this rank's latents; leave its codebook in the folder."""
    with process_group(rank, len(latents), folder):
        torch.manual_seed(rank)
        vq = VectorQuantizer(4, 2, decay=0.5, commitment_weight=0.25, dead_code_threshold=0.0).train()
        for _ in range(4):
            vq(latents[rank])
        torch.save(vq.codebook_KC, Path(folder) / f"{rank}.pt")
