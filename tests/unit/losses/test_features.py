"""Decoded maps and features of a teacher against their targets, by hand."""

import pytest
import torch
from made_up import batch_with, output

from perceptio.errors import InterfaceError, RecipeError
from perceptio.losses.decoded_l1 import DecodedL1Config
from perceptio.losses.features import FeatureCosineConfig, FeatureMSEConfig
from perceptio.testing.component import MODEL

NAN = float("nan")
KNOWN = (True, False)


def value(config, made, targets, known=KNOWN, field="rows_NmP"):
    """The loss of two blocks, of which the second's target is unknown unless said otherwise."""
    batch = batch_with(config.stream, targets=torch.tensor(targets), known=known)
    return config.build(MODEL)(output(config.stream, **{field: torch.tensor(made)}), batch)


def test_l1_is_averaged_over_what_is_known_of_each_map():
    made = [[[[0.5, 1.0, 0.0]]], [[[9.0, 9.0, 9.0]]]]
    config = DecodedL1Config(stream="edges")
    loss = value(config, made, [[[[0.0, 1.0, NAN]]], [[[NAN, NAN, NAN]]]], field="decoded")
    assert (loss.count, loss.total.item()) == (1, pytest.approx(0.25))
    both = value(config, made, [[[[0.0, 1.0, NAN]]], [[[9.0, 9.0, 8.0]]]], (True, True), field="decoded")
    assert (both.count, both.total.item()) == (2, pytest.approx(0.25 + 1 / 3))


def test_squared_error_of_features_by_hand():
    made = [[[1.0, 2.0], [0.0, 0.0]], [[5.0, 5.0], [5.0, 5.0]]]
    targets = [[[1.0, 0.0], [0.0, 2.0]], [[NAN, NAN], [NAN, NAN]]]
    loss = value(FeatureMSEConfig(stream="features"), made, targets)
    assert (loss.count, loss.total.item()) == (1, pytest.approx((0 + 4 + 0 + 4) / 4))


def test_the_cosine_looks_at_directions_alone():
    made = [[[3.0, 0.0], [0.0, 1.0], [1.0, 0.0]], [[1.0, 1.0]] * 3]
    targets = [[[1.0, 0.0], [0.0, -7.0], [NAN, 1.0]], [[NAN, NAN]] * 3]
    config = FeatureCosineConfig(stream="features", compare="decoded")
    loss = value(config, made, targets, field="decoded")
    assert (loss.count, loss.total.item()) == (1, pytest.approx((0 + 2) / 2))


@pytest.mark.parametrize("config", [FeatureMSEConfig, FeatureCosineConfig])
def test_no_gradient_comes_from_what_is_unknown(config):
    rows = torch.randn(2, 2, 3, requires_grad=True)
    targets = torch.randn(2, 2, 3)
    targets[1] = NAN
    batch = batch_with("features", targets=targets, known=KNOWN)
    config(stream="features").build(MODEL)(output("features", rows_NmP=rows), batch).total.backward()
    assert rows.grad[0].all() and not rows.grad[1].any()


@pytest.mark.parametrize("config", [DecodedL1Config, FeatureMSEConfig, FeatureCosineConfig])
def test_streams_of_another_kind_and_values_of_another_shape_are_refused(config):
    with pytest.raises(
        RecipeError,
        match=f"the loss {config.name} is about what special tokens decode to, and the stream 'depth'",
    ):
        config(stream="depth").build(MODEL)
    with pytest.raises(RecipeError, match=f"the loss {config.name} is about the stream 'feature', which"):
        config(stream="feature").build(MODEL)
    field = "decoded" if config is DecodedL1Config else "rows_NmP"
    with pytest.raises(
        InterfaceError,
        match=rf"as streams.features.{field} is float32 \[2, 1, 6\], and its targets are float32 \[2, 2, 6\]",
    ):
        config(stream="features").build(MODEL)(
            output("features", **{field: torch.zeros(2, 1, 6)}), batch_with("features")
        )
