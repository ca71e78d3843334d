"""Depth codes of a data set's images, by the model's own frozen tokenizer: computed once, before training."""

from collections.abc import Callable

import torch
from torch import Tensor

from perceptio.data.folder import FolderDataset
from perceptio.interfaces import DepthTokenizer, device_of
from perceptio.ops.depth_maps import from_map, resize_depth

BATCH_SIZE = 64


@torch.inference_mode()
def encode_depth(
    tokenizer: DepthTokenizer, dataset: FolderDataset, progress: Callable[[int, int], None] | None = None
) -> Tensor:
    """Codes [n, L] of the n images of a folder; a row of -1 where an image has no depth.

    Args:
        tokenizer: The frozen tokenizer.
        dataset: The folder.
        progress: Called with how many images are done, and of how many.
    """
    spec = tokenizer.spec
    device = device_of(tokenizer)
    codes_nL = torch.full((len(dataset), spec.num_codes), -1)
    tokenizer.eval()
    for first in range(0, len(dataset), BATCH_SIZE):
        numbers, maps = [], []
        for number in range(first, min(first + BATCH_SIZE, len(dataset))):
            depth = dataset.depth(number)
            if depth is not None:
                numbers.append(number)
                maps.append(resize_depth(from_map(depth, spec.convention), spec.image_size)[0])
        if numbers:
            codes_nL[numbers] = tokenizer.encode(torch.stack(maps).to(device)).cpu()
        if progress is not None:
            progress(min(first + BATCH_SIZE, len(dataset)), len(dataset))
    return codes_nL.clone()
