"""The depth teacher against the official module, and checkpoints that are none."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from teachers import official_teacher

from perceptio.data.teachers.depth_anything import MEAN, STD, load_teacher
from perceptio.errors import CheckpointError, InputError


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher")
    return folder, official_teacher(folder)


def normalized(image_3HW):
    return (image_3HW - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def test_depth_equals_the_official_module_s(saved):
    folder, official = saved
    teacher = load_teacher(str(folder), image_size=28)
    image_3HW = torch.rand(3, 28, 42, generator=torch.Generator().manual_seed(1))
    seen_13hw = teacher.prepare(image_3HW)[None]
    torch.testing.assert_close(seen_13hw[0], normalized(image_3HW), atol=1e-6, rtol=0)
    with torch.no_grad():
        expected = official(pixel_values=normalized(image_3HW)[None]).predicted_depth
    found = teacher.disparity(seen_13hw)
    assert found.shape == (1, 28, 42) and expected.std() > 0.01
    assert ((found - expected).abs().max() / expected.abs().max()).item() < 1e-5


def test_half_precision_rounds_and_a_precision_that_is_none_is_refused(saved):
    image_3HW = torch.rand(3, 28, 42, generator=torch.Generator().manual_seed(1))
    found = {}
    for precision in ("fp32", "bf16"):
        teacher = load_teacher(str(saved[0]), image_size=28, precision=precision)
        assert teacher.preprocessing["precision"] == precision
        found[precision] = teacher.disparity(teacher.prepare(image_3HW)[None])
        assert found[precision].dtype == torch.float32
    difference = ((found["bf16"] - found["fp32"]).abs().max() / found["fp32"].abs().max()).item()
    assert 1e-6 < difference < 0.05
    with pytest.raises(InputError, match="computes in fp32, bf16, fp16, and precision is 'fp8'"):
        load_teacher(str(saved[0]), image_size=28, precision="fp8")


def test_every_tensor_is_read(saved):
    folder, official = saved
    held = load_teacher(str(folder), image_size=28).model.state_dict()
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
    teacher = load_teacher(str(saved[0]), image_size=28)
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
    hashes = [load_teacher(str(path), image_size=28).weights_hash for path in (saved[0], tmp_path / "same")]
    assert hashes[0] == hashes[1] != load_teacher(str(tmp_path / "other"), image_size=28).weights_hash


def test_tensors_that_do_not_fit_are_all_named(saved, tmp_path):
    tensors = load_file(saved[0] / "model.safetensors")
    tensors.pop("head.conv3.bias")
    tensors["head.conv1.bias"] = torch.zeros(9)
    tensors["head.conv9.bias"] = torch.zeros(2)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_text((saved[0] / "config.json").read_text())
    with pytest.raises(CheckpointError) as raised:
        load_teacher(str(tmp_path), image_size=28)
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


def test_metric_teachers_are_refused(tmp_path):
    official_teacher(tmp_path, depth_estimation_type="metric", max_depth=20)
    with pytest.raises(CheckpointError, match="a Depth Anything of metric depth, and targets are relative"):
        load_teacher(str(tmp_path))


def test_an_image_size_that_is_no_multiple_of_the_patch(saved):
    with pytest.raises(InputError, match="520 is no multiple of that: choose an image size such as 518"):
        load_teacher(str(saved[0]), image_size=520)


def test_out_of_memory_says_what_to_lower(saved, monkeypatch):
    teacher = load_teacher(str(saved[0]), image_size=28)

    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(teacher.model, "forward", full)
    with pytest.raises(InputError, match=r"2 pictures of 42x28 pixels do not fit .* \(--batch-size\)"):
        teacher.disparity(torch.zeros(2, 3, 28, 42))
