"""A view in eval mode: the module is what it was, and the two share what they hold."""

import torch
from torch import nn

from perceptio.ops.eval_mode import in_eval_mode


def test_a_module_in_eval_mode_is_its_own_view():
    module = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)).eval()
    assert in_eval_mode(module) is module


def test_a_view_shares_parameters_and_buffers_and_has_its_own_mode():
    shared = nn.Linear(2, 2)
    module = nn.ModuleDict(
        {"a": shared, "b": nn.ModuleList([shared, nn.ModuleList()]), "norm": nn.BatchNorm1d(2)}
    )
    module["a"].eval()
    view = in_eval_mode(module)
    assert not any(part.training for part in view.modules())
    assert module.training and module["norm"].training and not module["a"].training
    assert [id(p) for p in view.parameters()] == [id(p) for p in module.parameters()]
    assert view["a"] is view["b"][0] and len(view["b"]) == 2
    module["norm"](torch.randn(8, 2))
    assert torch.equal(view["norm"].running_mean, module["norm"].running_mean)
    before = module["norm"].running_mean.clone()
    view["norm"](torch.randn(8, 2))
    assert torch.equal(module["norm"].running_mean, before)
