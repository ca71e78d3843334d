"""Every tensor goes into its place, or all that do not fit are named and nothing has moved."""

import json
import math

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from perceptio.errors import CheckpointError
from perceptio.ops.pickled_weights import is_state_dict, read_pickled
from perceptio.ops.weights import (
    Slice,
    load_tensors,
    tensors_of,
    write_weights,
)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(4, 3), nn.Linear(3, 4, bias=False)
        self.head.weight = self.embed.weight


def linear():
    return nn.Linear(3, 2)


def state(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def assert_equal(module, tensors):
    assert module.state_dict().keys() == tensors.keys()
    for name, value in module.state_dict().items():
        torch.testing.assert_close(value, tensors[name].to(value.dtype), rtol=0, atol=0)


def test_a_file_comes_back_whole(tmp_path):
    module, other = linear(), linear()
    write_weights(tensors_of(module), tmp_path)
    load_tensors(other, tmp_path / "model.safetensors")
    assert_equal(other, state(module))
    load_tensors(third := linear(), tmp_path)
    assert_equal(third, state(module))


def test_values_go_into_the_tensors_that_are_there_in_their_dtype(tmp_path):
    module, tensors = linear().to(torch.bfloat16), state(linear())
    save_file(tensors, tmp_path / "model.safetensors")
    place = module.weight.data_ptr()
    load_tensors(module, tmp_path / "model.safetensors")
    assert module.weight.data_ptr() == place and module.weight.dtype == torch.bfloat16
    assert_equal(module, tensors)


def sharded(folder, shards):
    weight_map = {}
    for number, tensors in enumerate(shards):
        save_file(tensors, folder / f"part-{number}.safetensors")
        weight_map |= dict.fromkeys(tensors, f"part-{number}.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def test_shards_are_found_by_their_index(tmp_path):
    tensors, module = state(linear()), linear()
    sharded(tmp_path, [{name: value} for name, value in tensors.items()])
    load_tensors(module, tmp_path)
    assert_equal(module, tensors)
    load_tensors(other := linear(), sorted(tmp_path.glob("*.safetensors")))
    assert_equal(other, tensors)


def test_names_change_on_the_way_and_some_are_left_out(tmp_path):
    tensors, module = state(linear()), linear()
    foreign = {"net.w": tensors["weight"], "bias": tensors["bias"], "steps": torch.zeros(1)}
    load_tensors(module, foreign, {"net.w": "weight", "steps": None})
    assert_equal(module, tensors)
    names = {"net.w": "weight", "bias": "bias", "steps": None}
    load_tensors(other := linear(), foreign, names.__getitem__)
    assert_equal(other, tensors)


def test_a_fused_tensor_comes_apart():
    tensors, module = state(linear()), linear()
    fused = {"fused": torch.cat([tensors["weight"], tensors["bias"][:, None]], 1)}
    parts = [Slice("weight", lambda whole: whole[:, :3]), Slice("bias", lambda whole: whole[:, 3])]
    load_tensors(module, fused, lambda name: parts)
    assert_equal(module, tensors)


def test_tied_tensors_come_once_or_equal():
    value, module = torch.rand(4, 3), Tied()
    load_tensors(module, {"embed.weight": value})
    assert torch.equal(module.head.weight, value)
    load_tensors(module, {"embed.weight": value + 1, "head.weight": value + 1})
    assert torch.equal(module.head.weight, value + 1)
    with pytest.raises(CheckpointError, match="head.weight and embed.weight differ, and are one tensor here"):
        load_tensors(module, {"embed.weight": value, "head.weight": value + 2})
    assert torch.equal(module.embed.weight, value + 1)


def indivisible(whole):
    return whole.unflatten(0, (2, -1))


@pytest.mark.parametrize(
    ("tensors", "rename", "messages"),
    [
        ({"weight": torch.zeros(2, 3)}, None, ["The given state dict does not fit Linear: bias is missing."]),
        (
            {"weight": torch.zeros(3, 2), "b": torch.zeros(2)},
            None,
            [
                r"weight has shape \(3, 2\) instead of \(2, 3\)",
                "b is not a part of this model",
                "bias is missing",
            ],
        ),
        (
            {"w": torch.zeros(2, 3), "bias": torch.zeros(2), "weight": torch.zeros(2, 3)},
            {"w": "weight"},
            [r"weight comes twice, the first time as w \(here weight\)"],
        ),
        (
            {"weight": torch.zeros(2, 3), "b": torch.zeros(2, dtype=torch.int8)},
            {"b": "bias"},
            [r"b \(here bias\) holds integers instead of torch.float32"],
        ),
        (
            {"weight": torch.zeros(2, 3), "b": torch.zeros(3)},
            lambda name: "weight" if name == "weight" else [Slice("bias", indivisible)],
            [r"b \(here bias\) has shape \(3,\), which cannot be divided as it should be"],
        ),
        (
            {"weight": torch.zeros(2, 3), "b": torch.zeros(2)},
            lambda name: "weight" if name == "weight" else [Slice("bias", lambda whole: whole[:, 0])],
            [r"b \(here bias\) has shape \(2,\), which cannot be divided as it should be"],
        ),
    ],
)
def test_all_that_does_not_fit_is_named_and_nothing_moves(tensors, rename, messages):
    module = linear()
    before = state(module)
    with pytest.raises(CheckpointError) as caught:
        load_tensors(module, tensors, rename)
    for message in messages:
        caught.match(message)
    assert_equal(module, before)


def test_what_does_not_fit_in_the_last_shard_is_found_before_the_first_value_moves(tmp_path):
    module = linear()
    before = state(module)
    sharded(tmp_path, [{"weight": torch.zeros(2, 3)}, {"bias": torch.zeros(5)}])
    with pytest.raises(CheckpointError, match=r"part-1.* does not fit Linear: bias has shape \(5,\)"):
        load_tensors(module, tmp_path)
    assert_equal(module, before)


def test_a_module_without_values_is_refused():
    with pytest.raises(CheckpointError, match="Linear lies on the meta device, which holds no values"):
        load_tensors(linear().to("meta"), {})


def test_files_that_are_not_there_or_broken_are_named(tmp_path):
    with pytest.raises(CheckpointError, match="There are no weights in .*neither model.safetensors nor"):
        load_tensors(linear(), tmp_path)
    with pytest.raises(CheckpointError, match="There are no weights at .*absent.safetensors"):
        load_tensors(linear(), tmp_path / "absent.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"weight": "part-7.safetensors"}}')
    with pytest.raises(CheckpointError, match="names files that are not there: part-7.safetensors"):
        load_tensors(linear(), tmp_path)
    for name in ("../x.safetensors", "/etc/passwd", "a/../../b", "", 7, None, "nul\0"):
        index.write_text(json.dumps({"weight_map": {"weight": name}}))
        with pytest.raises(CheckpointError, match="names the file .*, which (must be a path|is not|has a)"):
            load_tensors(linear(), tmp_path)
    index.write_text("[]")
    with pytest.raises(CheckpointError, match="is no JSON object: copy or download it again"):
        load_tensors(linear(), tmp_path)
    (tmp_path / "broken.safetensors").write_bytes(b"1234567890")
    with pytest.raises(CheckpointError, match="broken.safetensors is not a whole safetensors file"):
        load_tensors(linear(), tmp_path / "broken.safetensors")


@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_tensors_are_read(tmp_path, zipped):
    tensors, module = state(linear()), linear()
    torch.save({"model": tensors}, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    load_tensors(module, read_pickled(tmp_path / "w.pt")["model"])
    assert_equal(module, tensors)


class Hostile:
    def __reduce__(self):
        return (print, ("code has run",))


def test_a_pickle_that_wants_to_run_code_is_refused(tmp_path, capsys):
    torch.save({"model": Hostile()}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="its pickle asks to run code, which is never done") as caught:
        read_pickled(tmp_path / "w.pt")
    assert "weights_only" not in str(caught.value)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("held", [None, [torch.zeros(1)], {1: torch.zeros(1)}, {"step": 3}])
def test_a_state_dict_is_tensors_by_name(held):
    assert is_state_dict({"weight": torch.zeros(1)})
    assert not is_state_dict(held)


def test_a_broken_pickle_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="There are no weights at"):
        read_pickled(tmp_path / "absent.pt")
    torch.save(state(linear()), tmp_path / "w.pt")
    for harm in (lambda held: held[:-300], lambda held: b"version https://git-lfs", lambda held: b""):
        (tmp_path / "w.pt").write_bytes(harm((tmp_path / "w.pt").read_bytes()))
        with pytest.raises(CheckpointError, match="w.pt is not a whole PyTorch file"):
            read_pickled(tmp_path / "w.pt")


def test_tensors_with_values_that_are_not_finite_are_named_in_the_modules_order(tmp_path):
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    broken = {name: value.clone() for name, value in module.state_dict().items()}
    broken["2.bias"][1], broken["0.weight"][0, 1] = math.nan, math.inf
    save_file(broken, tmp_path / "model.safetensors")
    for source in (tmp_path, broken):
        assert load_tensors(module, source) == ["0.weight", "2.bias"]
    transposed = {name: value.t().contiguous() for name, value in broken.items()}
    assert load_tensors(module, transposed, lambda name: [Slice(name, lambda value: value.t())]) == [
        "0.weight",
        "2.bias",
    ]
