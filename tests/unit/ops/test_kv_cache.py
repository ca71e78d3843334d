"""Memory for keys and values is taken as they are written."""

import torch

from perceptio.interfaces import SequenceLayout
from perceptio.ops.kv_cache import ROOM, KeyValueCache


def layout(past, count):
    return SequenceLayout.cached(torch.zeros(1, 1, count), torch.tensor([past]), past + count)


def test_a_cache_grows_with_what_is_written_and_keeps_it():
    cache, written = KeyValueCache(1, 10**12), torch.randn(1, 5 * ROOM, 1, 2)
    for past in range(0, written.shape[1], 64):
        new = written[:, past : past + 64]
        held, _ = cache.write(0, new, -new, layout(past, 64))
    assert torch.equal(held[:, : written.shape[1]], written) and held.shape[1] < 3 * written.shape[1]


def test_no_more_is_taken_than_a_row_may_have():
    held, _ = KeyValueCache(2, 7).write(0, torch.randn(2, 3, 1, 2), torch.randn(2, 3, 1, 2), layout(0, 3))
    assert held.shape == (2, 7, 1, 2)
