"""Depth levels at marked points, read from decoded codes once before training.

Shapes: n images of a folder, N images of a batch, P marked points, L codes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from perceptio.data.conversations import Levels
from perceptio.data.folder import FolderDataset
from perceptio.interfaces import PerceptionTokenizer, device_of
from perceptio.model.point_values import levels_at
from perceptio.ops.eval_mode import in_eval_mode
from perceptio.training.codes import BATCH_SIZE


@torch.inference_mode()
def levels_of_points(
    tokenizer: PerceptionTokenizer,
    dataset: FolderDataset,
    images: Sequence[int],
    codes_nL: Tensor,
    count: int,
) -> Levels:
    """Return the level at every point that a turn marks, for the images that have codes.

    Args:
        tokenizer: The stream's tokenizer.
        dataset: The folder.
        images: Numbers of the images.
        codes_nL: Codes of all images of the folder; a row of -1 for an image without codes.
        count: Number of levels.
    """
    tokenizer, device = in_eval_mode(tokenizer), device_of(tokenizer)
    points = {
        number: tuple(dict.fromkeys(point for turn in dataset.turns(number) for point in turn.points))
        for number in images
        if int(codes_nL[number, 0]) >= 0
    }
    numbers, levels = [number for number, marked in points.items() if marked], {}
    for first in range(0, len(numbers), BATCH_SIZE):
        batch = numbers[first : first + BATCH_SIZE]
        most = max(len(points[number]) for number in batch)
        points_NP2 = torch.tensor(
            [[*points[number], *[(0.0, 0.0)] * (most - len(points[number]))] for number in batch],
            device=device,
        )
        decoded = tokenizer.from_codes(codes_nL[batch].long().to(device))
        found = levels_at(tokenizer, decoded, points_NP2, count).tolist()
        for number, row in zip(batch, found, strict=True):
            levels[number] = dict(zip(points[number], row, strict=False))
    return levels
