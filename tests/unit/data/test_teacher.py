"""The depth teacher against the official module, and checkpoints that are none."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from teachers import official_teacher

from perceptio.data.teachers import load_teacher
from perceptio.data.teachers.depth_anything import MEAN, STD, DepthAnythingConfig
from perceptio.errors import CheckpointError, InputError, InterfaceError, RecipeError, UnknownNameError
from perceptio.interfaces import TeacherSpec
from perceptio.registry import Registry
from perceptio.testing import TeacherConformance

PLUGIN = """
from typing import ClassVar

import attrs
import torch

from perceptio.hookspecs import hookimpl
from perceptio.interfaces import Kind, Teacher, TeacherConfig, TeacherSpec

PREPARE = None
DEPTH = None


class Bright(Teacher):
    name, weights_hash, spec = "bright", "none", TeacherSpec()

    def __init__(self, gain, device):
        self.gain, self.device = gain, device

    @property
    def preprocessing(self):
        return {"gain": self.gain}

    def prepare(self, image_3HW):
        return PREPARE(image_3HW) if PREPARE else image_3HW

    def depth(self, seen_BChw):
        return DEPTH(seen_BChw) if DEPTH else self.gain * seen_BChw.mean(1)


@attrs.frozen(kw_only=True)
class BrightConfig(TeacherConfig):
    name: ClassVar[str] = "bright"
    kind: ClassVar[Kind] = Kind.TEACHER
    interface: ClassVar[tuple[int, int]] = (2, 0)

    gain: float = 1.0

    def load(self, device):
        return Bright(self.gain, device)


@hookimpl
def register_teachers():
    return [BrightConfig]
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher")
    return folder, official_teacher(folder)


def normalized(image_3HW):
    return (image_3HW - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def test_depth_equals_the_official_module_s(saved):
    folder, official = saved
    teacher = load_teacher(str(folder), {"image_size": 28})
    image_3HW = torch.rand(3, 28, 42, generator=torch.Generator().manual_seed(1))
    seen_13hw = teacher.prepare(image_3HW)[None]
    torch.testing.assert_close(seen_13hw[0], normalized(image_3HW), atol=1e-6, rtol=0)
    with torch.no_grad():
        expected = official(pixel_values=normalized(image_3HW)[None]).predicted_depth
    found = teacher.depth(seen_13hw)
    assert found.shape == (1, 28, 42) and expected.std() > 0.01
    assert ((found - expected).abs().max() / expected.abs().max()).item() < 1e-5


def test_half_precision_rounds_and_a_precision_that_is_none_is_refused(saved):
    image_3HW = torch.rand(3, 28, 42, generator=torch.Generator().manual_seed(1))
    found = {}
    for precision in ("fp32", "bf16"):
        teacher = load_teacher(str(saved[0]), {"image_size": 28, "precision": precision})
        assert teacher.preprocessing["precision"] == precision
        found[precision] = teacher.depth(teacher.prepare(image_3HW)[None]).float()
    difference = ((found["bf16"] - found["fp32"]).abs().max() / found["fp32"].abs().max()).item()
    assert 1e-6 < difference < 0.05
    with pytest.raises(RecipeError, match="precision is 'fp8'"):
        load_teacher(str(saved[0]), {"image_size": 28, "precision": "fp8"})
    with pytest.raises(InputError, match="computes in fp32, bf16, fp16, and precision is 'fp8'"):
        DepthAnythingConfig(precision="fp8")


def test_every_tensor_is_read(saved):
    folder, official = saved
    held = load_teacher(str(folder), {"image_size": 28}).model.state_dict()
    wanted = official.state_dict()
    assert len(wanted) > 100 and held.keys() == wanted.keys()
    assert all(torch.equal(held[name], value) for name, value in wanted.items())


@pytest.mark.parametrize(
    ("height", "width", "seen"),
    [(480, 640, (518, 686)), (640, 480, (686, 518)), (100, 100, (518, 518)), (400, 1000, (518, 1288))],
)
def test_the_shorter_side_is_the_image_size_and_both_are_multiples_of_14(saved, height, width, seen):
    assert load_teacher(str(saved[0])).seen_size(height, width) == seen


def test_preprocessing_keeps_the_range_of_a_picture_and_says_what_it_is(saved):
    teacher = load_teacher(str(saved[0]), {"image_size": 28})
    hard_3HW = torch.zeros(3, 50, 80)
    hard_3HW[:, :, 40:] = 1.0
    seen_3hw = teacher.prepare(hard_3HW)
    unit_3hw = seen_3hw * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)
    assert seen_3hw.shape == (3, 28, 42) and unit_3hw.min() > -1e-6 and unit_3hw.max() < 1 + 1e-6
    assert teacher.preprocessing["shorter_side"] == 28
    assert json.loads(json.dumps(teacher.preprocessing)) == teacher.preprocessing


def test_the_hash_is_of_the_weights_alone(saved, tmp_path):
    official_teacher(tmp_path / "other", seed=1)
    official_teacher(tmp_path / "same")
    hashes = [
        load_teacher(str(path), {"image_size": 28}).weights_hash for path in (saved[0], tmp_path / "same")
    ]
    assert hashes[0] == hashes[1] != load_teacher(str(tmp_path / "other"), {"image_size": 28}).weights_hash


def test_tensors_that_do_not_fit_are_all_named(saved, tmp_path):
    tensors = load_file(saved[0] / "model.safetensors")
    tensors.pop("head.conv3.bias")
    tensors["head.conv1.bias"] = torch.zeros(9)
    tensors["head.conv9.bias"] = torch.zeros(2)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_text((saved[0] / "config.json").read_text())
    with pytest.raises(CheckpointError) as raised:
        load_teacher(str(tmp_path), {"image_size": 28})
    message = str(raised.value)
    assert "head.conv3.bias is missing" in message
    assert "head.conv9.bias is not a part of this model" in message
    assert "head.conv1.bias has shape (9,) instead of (4,)" in message


def test_a_name_that_is_no_teacher_s():
    with pytest.raises(CheckpointError, match="did you mean 'depth-anything-v2-small'"):
        load_teacher("depth-anything-v2-smal")


def test_another_kind_of_model(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "dpt"}')
    with pytest.raises(
        CheckpointError, match="a model of the type 'dpt'; a teacher is a 'depth_anything' model"
    ):
        load_teacher(str(tmp_path))


def test_a_folder_without_a_config_or_without_weights(tmp_path):
    with pytest.raises(CheckpointError, match="config.json does not exist, .*: name the folder of a teacher"):
        load_teacher(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "depth_anything"}')
    with pytest.raises(CheckpointError, match=r"has a config.json and no weights: copy its \*.safetensors"):
        load_teacher(str(tmp_path))


def test_a_broken_weights_file(saved, tmp_path):
    (tmp_path / "config.json").write_text((saved[0] / "config.json").read_text())
    (tmp_path / "model.safetensors").write_bytes((saved[0] / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="is not a whole safetensors file"):
        load_teacher(str(tmp_path))


def test_a_metric_checkpoint_gives_metres(saved, tmp_path):
    official = official_teacher(tmp_path, depth_estimation_type="metric", max_depth=20)
    teacher = load_teacher(str(tmp_path), {"image_size": 28})
    assert teacher.spec == TeacherSpec(unit="metres", farthest_m=20.0)
    assert load_teacher(str(saved[0])).spec.unit == "disparity"
    seen_13hw = teacher.prepare(torch.rand(3, 28, 42))[None]
    with torch.no_grad():
        torch.testing.assert_close(teacher.depth(seen_13hw), official(pixel_values=seen_13hw).predicted_depth)


def test_depth_of_another_kind_is_refused(saved, tmp_path):
    config = json.loads((saved[0] / "config.json").read_text()) | {"depth_estimation_type": "ordinal"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(
        CheckpointError, match="a Depth Anything of 'ordinal' depth; a teacher gives relative or"
    ):
        load_teacher(str(tmp_path))


def test_auto_is_bf16_where_the_device_computes_in_it(saved, monkeypatch):
    for computes, precision in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(
            "perceptio.data.teachers.depth_anything.computes_bfloat16",
            lambda device, computes=computes: computes,
        )
        settings = {"image_size": 28, "precision": "auto"}
        assert load_teacher(str(saved[0]), settings).preprocessing["precision"] == precision


def test_an_image_size_that_is_no_multiple_of_the_patch(saved):
    with pytest.raises(InputError, match="520 is no multiple of that: choose an image size such as 518"):
        load_teacher(str(saved[0]), {"image_size": 520})


class TestDepthAnything(TeacherConformance):
    @pytest.fixture(autouse=True)
    def _with_weights(self, saved):
        type(self).config = DepthAnythingConfig(weights=str(saved[0]), image_size=28)


def test_a_plugin_s_teacher_by_its_name(tmp_path, monkeypatch):
    (tmp_path / "acme.py").write_text(PLUGIN)
    registry = Registry.discover([tmp_path / "acme.py"])
    teacher = load_teacher("acme/bright", {"gain": "2.5"}, registry=registry)
    assert (teacher.name, teacher.gain, teacher.device.type) == ("bright", 2.5, "cpu")
    assert teacher.origin == f"acme/bright ({tmp_path / 'acme.py'})"
    with pytest.raises(
        UnknownNameError, match="no teacher component 'acme/brite'; did you mean 'acme/bright'"
    ):
        load_teacher("acme/brite", registry=registry)
    with pytest.raises(UnknownNameError, match="acme/bright has no setting 'gian'; did you mean 'gain'"):
        load_teacher("acme/bright", {"gian": 1}, registry=registry)
    with pytest.raises(RecipeError, match="gain"):
        load_teacher("acme/bright", {"gain": "much"}, registry=registry)
    with pytest.raises(
        CheckpointError, match="There is no teacher 'brightness'.*acme/bright, depth-anything-v2"
    ):
        load_teacher("brightness", registry=registry)


@pytest.mark.parametrize(
    ("method", "made", "message"),
    [
        (
            "depth",
            "torch.zeros(len(seen), 9, 9)",
            r"depth made float32 \[1, 9, 9\] of .* it must make floating-point \[1, 4, 6",
        ),
        ("depth", "torch.zeros(2, 4, 6)", r"depth made float32 \[2, 4, 6\]"),
        ("depth", "torch.zeros(1, 4, 6).long()", r"depth made int64 \[1, 4, 6\]"),
        ("depth", "[0.0]", "depth made a list of"),
        (
            "prepare",
            "seen[0]",
            r"prepare made float32 \[4, 6\] of one picture; it must make \[C, h, w\] on the CPU",
        ),
        ("prepare", "seen.to('meta')", r"prepare made float32 \[3, 4, 6\] on meta of one picture"),
    ],
)
def test_what_a_teacher_makes_is_held_to_its_promise_where_it_is_made(tmp_path, method, made, message):
    (tmp_path / "acme.py").write_text(
        PLUGIN.replace(f"{method.upper()} = None", f"{method.upper()} = lambda seen: {made}")
    )
    teacher = load_teacher("acme/bright", registry=Registry.discover([tmp_path / "acme.py"]))
    with pytest.raises(InterfaceError, match=f"acme/bright .*Bright.{message}"):
        teacher.depth(teacher.prepare(torch.rand(3, 4, 6))[None])


def test_a_spec_that_means_nothing():
    with pytest.raises(RecipeError, match="gives disparity or metres, and unit is 'feet'"):
        TeacherSpec(unit="feet")
    with pytest.raises(RecipeError, match="farthest_m is 0; it must be above 0"):
        TeacherSpec(unit="metres", farthest_m=0)
