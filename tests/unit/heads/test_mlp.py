import pytest
import torch
from safetensors.torch import save_file

from perceptio.errors import CheckpointError
from perceptio.heads.mlp import MLPHeadConfig
from perceptio.testing.component import MODEL

NAMES = {
    "native": ("mlp1.0", "mlp1.1", "mlp1.3"),
    "old transformers": tuple(
        f"multi_modal_projector.{end}" for end in ("layer_norm", "linear_1", "linear_2")
    ),
    "transformers": tuple(
        f"model.multi_modal_projector.{end}" for end in ("layer_norm", "linear_1", "linear_2")
    ),
}


def tensors(names, in_dim=6, out_dim=4):
    shapes = ((in_dim,), (out_dim, in_dim), (out_dim, out_dim))
    generator = torch.Generator().manual_seed(0)
    return {
        f"{name}.{end}": torch.randn(shape[: 2 if end == "weight" else 1], generator=generator)
        for name, shape in zip(names, shapes, strict=True)
        for end in ("weight", "bias")
    }


@pytest.mark.parametrize("layout", NAMES)
def test_the_projector_of_internvl_is_read(tmp_path, layout):
    held = tensors(NAMES[layout])
    save_file(held | {"vision_model.x": torch.zeros(1)}, tmp_path / "model.safetensors")
    config = MLPHeadConfig(weights=str(tmp_path))
    head = config.build(6, 4, MODEL)
    assert config.load_weights(head)
    x = torch.randn(3, 6)
    norm, norm_bias, first, first_bias, second, second_bias = held.values()
    hidden = torch.nn.functional.layer_norm(x, (6,), norm, norm_bias) @ first.T + first_bias
    torch.testing.assert_close(head(x), torch.nn.functional.gelu(hidden) @ second.T + second_bias)


def test_a_projector_of_other_widths_is_refused(tmp_path):
    save_file(tensors(NAMES["native"]), tmp_path / "model.safetensors")
    config = MLPHeadConfig(weights=str(tmp_path))
    with pytest.raises(
        CheckpointError, match=r"mlp1.1.weight \(here 1.weight\) has shape \(4, 6\) instead of \(5, 6\)"
    ):
        config.load_weights(config.build(6, 5, MODEL))
    assert not MLPHeadConfig().load_weights(MLPHeadConfig().build(6, 4, MODEL))


def test_a_projector_that_starts_from_zeros_says_nothing_at_first_and_learns():
    head = MLPHeadConfig(zero_start=True).build(6, 4, MODEL)
    x = torch.randn(3, 6)
    assert not head(x).any()
    (head(x) - 1).square().sum().backward()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter -= 0.01 * parameter.grad
    assert head(x).all()
    assert MLPHeadConfig().build(6, 4, MODEL)(x).any()
