"""Dense maps of any kind, by hand."""

import torch

from perceptio.interfaces.maps import at_sizes, iou, stack_known


def test_what_is_unknown_is_stacked_as_nan():
    cpu = torch.device("cpu")
    stacked = stack_known([torch.ones(1, 2, 2), None], (1, 2, 2), cpu)
    assert stacked.shape == (2, 1, 2, 2) and (stacked[0] == 1).all() and stacked[1].isnan().all()
    assert stack_known([], (3, 2, 4), cpu).shape == (0, 3, 2, 4)


def test_each_map_has_a_size_of_its_own():
    maps = torch.tensor([[[[0.0, 1.0]]], [[[2.0, 2.0]]]])
    wide, tall = at_sizes(maps.bfloat16(), [(1, 4), (3, 1)])
    assert wide.dtype == torch.float32 and wide.tolist() == [[[0.0, 0.25, 0.75, 1.0]]]
    assert tall.tolist() == [[[2.0], [2.0], [2.0]]]


def test_the_iou_of_areas():
    one = torch.tensor([[True, True, False], [False, False, False], [True, False, False]])
    other = torch.tensor([[True, False, True], [False, False, False], [False, True, False]])
    torch.testing.assert_close(iou(one, other), torch.tensor([1 / 3, 1.0, 0.0]))
