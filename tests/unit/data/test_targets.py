"""Depth targets: what becomes of every kind of file, resumption, and targets that are not mixed."""

import json
import os
import warnings

import attrs
import numpy as np
import pytest
import torch
from PIL import Image
from small import scenes_folder
from torch import nn

from perceptio.data.folder import FolderDataset
from perceptio.data.folder.check import check_folder
from perceptio.data.teachers.depth_anything import DepthAnything
from perceptio.data.teachers.levels import to_levels
from perceptio.data.teachers.targets import RECORD_FILE, write_depth_targets
from perceptio.data.teachers.teacher_pass import PENDING
from perceptio.errors import DataError, InputError
from perceptio.interfaces import DepthConvention, TeacherSpec
from perceptio.interfaces.depth_maps import from_map

DISPARITY = TeacherSpec(unit="disparity")


class Brightness(nn.Module):
    """A teacher that takes bright for near, and counts its batches."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.batches = []

    def forward(self, pixel_values):
        self.batches.append(tuple(pixel_values.shape))
        return Counted(self.scale * pixel_values.mean(1))


@attrs.frozen
class Counted:
    predicted_depth: torch.Tensor


def teacher(**changes):
    settings = {"name": "bright", "weights_hash": "0123", "image_size": 28} | changes
    return DepthAnything(model=Brightness(), **settings)


def ramp(height=32, width=40):
    gray = np.linspace(0, 255, width).astype(np.uint8)
    return Image.fromarray(np.repeat(np.tile(gray, (height, 1))[..., None], 3, axis=2))


def forget_depth(folder):
    """Take the meaning of depth out of `dataset.json`."""
    info = json.loads((folder / "dataset.json").read_text())
    del info["depth"]
    (folder / "dataset.json").write_text(json.dumps(info))


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.png", "b.png", "c.png"):
        ramp().save(folder / name)
    return folder


def test_a_folder_of_pictures_becomes_a_data_folder(photos, tmp_path):
    (photos / "more").mkdir()
    ramp(40, 32).save(photos / "more" / "a.png")
    (photos / "notes.txt").write_text("lunch")
    report = write_depth_targets(photos, tmp_path / "out", teacher())
    assert (report.made, report.kept, report.broken, report.passed_over) == (4, 0, {}, ("notes.txt",))
    assert not check_folder(tmp_path / "out").problems
    dataset = FolderDataset(tmp_path / "out")
    assert [record.id for record in dataset.records] == ["a.png", "b.png", "c.png", "more/a.png"]
    unit_11HW = from_map(dataset[0].depth, DepthConvention())
    assert unit_11HW.shape == (1, 1, 32, 40)
    expected_HW = torch.from_numpy(np.asarray(ramp())[..., 0].copy()).float() / 255
    torch.testing.assert_close(unit_11HW[0, 0], expected_HW, atol=0.05, rtol=0)


def test_levels_reach_from_end_to_end_and_a_flat_map_is_the_middle():
    levels = to_levels(np.array([[2.0, 4.0, 6.0]]), DISPARITY)
    assert levels.dtype == np.uint16 and levels.tolist() == [[1, 32768, 65535]]
    assert to_levels(np.full((2, 2), 7.0), DISPARITY).tolist() == [[32768, 32768]] * 2
    assert to_levels(np.array([[7.0, 7.0 + 1e-9]]), DISPARITY).tolist() == [[32768, 32768]]
    assert to_levels(np.zeros((1, 2)), DISPARITY).tolist() == [[32768, 32768]]


def test_a_flat_picture_is_one_half_everywhere(tmp_path):
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (32, 32), (9, 9, 9)).save(tmp_path / "photos" / "a.png")
    write_depth_targets(tmp_path / "photos", tmp_path / "out", teacher())
    unit_11HW = from_map(FolderDataset(tmp_path / "out").depth(0), DepthConvention())
    assert torch.equal(unit_11HW, torch.full((1, 1, 32, 32), 0.5))


def save_gray16(path):
    Image.fromarray(np.tile(np.linspace(0, 65535, 40).astype(np.uint16), (32, 1))).save(path)


def save_rotated(path):
    exif = Image.Exif()
    exif[0x0112] = 6
    ramp().save(path, exif=exif)


def save_animated(path):
    ramp().save(path, save_all=True, append_images=[ramp().rotate(180)])


def save_cut(path):
    ramp().save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


@pytest.mark.parametrize(
    ("name", "save", "shape"),
    [
        ("gray16.png", save_gray16, (32, 40)),
        ("gray.png", lambda path: ramp().convert("L").save(path), (32, 40)),
        ("palette.png", lambda path: ramp().convert("P").save(path), (32, 40)),
        ("alpha.png", lambda path: ramp().convert("RGBA").save(path), (32, 40)),
        ("rotated.jpg", save_rotated, (40, 32)),
    ],
)
def test_every_kind_of_picture_gets_depth_of_the_size_it_shows(tmp_path, name, save, shape):
    (tmp_path / "photos").mkdir()
    save(tmp_path / "photos" / name)
    write_depth_targets(tmp_path / "photos", tmp_path / "out", teacher())
    assert not check_folder(tmp_path / "out").problems
    sample = FolderDataset(tmp_path / "out")[0]
    assert sample.depth.values_HW.shape == shape and np.ptp(sample.depth.values_HW) > 0.9


@pytest.mark.parametrize(
    ("name", "save", "reason"),
    [
        ("empty.png", lambda path: path.touch(), "is empty"),
        ("text.jpg", lambda path: path.write_text("no picture"), "no image that can be read"),
        ("cut.png", save_cut, "cannot be read to its end"),
        ("moving.gif", save_animated, "holds 2 pictures"),
        ("speck.png", lambda path: ramp(4, 4).save(path), "needs at least 8 pixels"),
    ],
)
def test_a_picture_that_cannot_be_read_is_named_and_does_not_stop_the_others(
    photos, tmp_path, name, save, reason
):
    save(photos / name)
    report = write_depth_targets(photos, tmp_path / "out", teacher())
    ((file, message),) = report.broken.items()
    assert file == str(photos / name) and str(photos / name) in message and reason in message
    assert report.made == 3 and len(FolderDataset(tmp_path / "out")) == 3


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (b"back\\slash.png", "must be a path inside the folder, with /: rename it"),
        (b"caf\xe9.png", "has characters that are not UTF-8: rename it"),
        (b"n" * 248 + b".png", "longer than 255 bytes, or is longer than 4000: rename it"),
    ],
)
def test_a_name_that_a_data_folder_cannot_hold_is_said_before_the_work(photos, tmp_path, name, reason):
    ramp().save(os.fsdecode(os.path.join(os.fsencode(photos), name)), "PNG")
    bright = teacher()
    report = write_depth_targets(photos, tmp_path / "out", bright)
    ((file, message),) = report.broken.items()
    assert os.fsencode(file).endswith(name) and reason in message and message.encode()
    assert report.made == sum(batch[0] for batch in bright.model.batches) == 3
    assert not check_folder(tmp_path / "out").problems


def test_the_longest_name_that_fits_is_taken(photos, tmp_path):
    ramp().save(photos / ("n" * 247 + ".png"))
    assert write_depth_targets(photos, tmp_path / "out", teacher()).made == 4
    assert not check_folder(tmp_path / "out").problems


def test_lines_that_the_reader_refuses_are_said_before_the_work(photos, tmp_path):
    out = tmp_path / "out"
    write_depth_targets(photos, out, teacher())
    with (out / "samples.jsonl").open("a") as lines:
        lines.write('{"id": "a.png", "image": "x.png", "turns": []}\n')
    ramp().save(photos / "d.png")
    bright = teacher()
    with pytest.raises(DataError, match="line 4.*id 'a.png' is that of line 1 too.*lists all problems"):
        write_depth_targets(photos, out, bright)
    assert not bright.model.batches


def test_a_question_with_other_line_ends_in_it_gets_its_depth(tmp_path):
    folder = scenes_folder(tmp_path / "scenes", count=1)
    line = json.loads((folder / "samples.jsonl").read_text())
    del line["depth"]
    line["turns"] = [{"task": "chat", "question": "one\u2028two\x85three", "answer": "\x0b"}]
    (folder / "samples.jsonl").write_text(json.dumps(line, ensure_ascii=False) + "\n", encoding="utf-8")
    forget_depth(folder)
    write_depth_targets(folder, folder, teacher())
    dataset = FolderDataset(folder)
    assert dataset.turns(0)[0].question == "one\u2028two\x85three"
    assert dataset.info.depth_unit == "disparity" and set(dataset[0].maps) == {"edges", "normals"}


def test_a_folder_that_leads_elsewhere_is_not_written_through(photos, tmp_path):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    write_depth_targets(photos, out, teacher())
    (out / "depth").rename(elsewhere)
    (out / "depth").symlink_to(elsewhere)
    bright = teacher()
    with pytest.raises(DataError, match="leads out of"):
        write_depth_targets(photos, out, bright)
    assert not bright.model.batches


def test_pictures_go_through_the_teacher_in_batches_of_one_size(photos, tmp_path):
    for number in range(2):
        ramp(60, 32).save(photos / f"b{number}.png")
    bright = teacher()
    seen = []
    write_depth_targets(photos, tmp_path / "out", bright, batch_size=2, progress=lambda *at: seen.append(at))
    wide, tall = bright.seen_size(32, 40), bright.seen_size(60, 32)
    assert wide != tall
    assert sorted(bright.model.batches) == sorted([(2, 3, *wide), (1, 3, *wide), (2, 3, *tall)])
    assert seen == [(0, 5), (2, 5), (4, 5), (5, 5)]


def test_pictures_of_many_sizes_do_not_pile_up(tmp_path):
    (tmp_path / "photos").mkdir()
    for number in range(PENDING + 2):
        ramp(32, 40 + 20 * number).save(tmp_path / "photos" / f"{number:02}.png")
    bright = teacher()
    write_depth_targets(tmp_path / "photos", tmp_path / "out", bright, batch_size=1)
    assert len(bright.model.batches) == PENDING + 2


def test_long_pictures_share_a_batch_with_fewer(tmp_path):
    (tmp_path / "photos").mkdir()
    for number in range(4):
        ramp(32, 160).save(tmp_path / "photos" / f"long{number}.png")
        ramp(32, 64).save(tmp_path / "photos" / f"usual{number}.png")
    bright = teacher()
    write_depth_targets(tmp_path / "photos", tmp_path / "out", bright, batch_size=4)
    long, usual = bright.seen_size(32, 160), bright.seen_size(32, 64)
    assert sorted(bright.model.batches) == sorted([(1, 3, *long)] * 4 + [(4, 3, *usual)])


def test_a_picture_far_too_long_is_broken_and_the_pass_goes_on(photos, tmp_path):
    ramp(8, 4000).save(photos / "strip.png")
    seen = []
    report = write_depth_targets(
        photos, tmp_path / "out", teacher(image_size=140), progress=lambda *at: seen.append(at)
    )
    assert report.broken == {
        str(
            photos / "strip.png"
        ): f"{photos / 'strip.png'}: the teacher would see 4000x8 pixels, its shorter side "
        "brought to 140, as 50,000 patches, more than 16,384: crop the picture, or lower the image size "
        "(--image-size)."
    }
    assert report.made == 3 and seen[-1] == (4, 4)


@pytest.mark.parametrize("workers", [1, 3])
def test_the_targets_do_not_depend_on_the_threads(tmp_path, workers):
    (tmp_path / "photos").mkdir()
    for number in range(7):
        ramp(32 + number, 40).save(tmp_path / "photos" / f"{number}.png")
    (tmp_path / "photos" / "empty.png").touch()
    filters, seen = list(warnings.filters), []
    report = write_depth_targets(
        tmp_path / "photos",
        tmp_path / "out",
        teacher(),
        batch_size=2,
        workers=workers,
        progress=lambda *at: seen.append(at),
    )
    assert report.made == 7 and seen == sorted(seen) and seen[-1] == (8, 8)
    for number in range(7):
        with Image.open(tmp_path / "out" / "depth" / f"{number}.png.png") as depth:
            levels = np.asarray(depth)
        assert levels.shape == (32 + number, 40) and levels[:, 0].max() == 1 and levels[:, -1].min() == 65535
    assert warnings.filters == filters


def test_a_disk_that_fills_behind_the_teacher_ends_the_pass(photos, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("perceptio.data.teachers.teacher_pass.shutil.copy2", full)
    with pytest.raises(DataError, match="the disk is full"):
        write_depth_targets(photos, tmp_path / "out", teacher(), batch_size=1)


def test_a_pass_goes_on_where_it_was_stopped(photos, tmp_path):
    def stop(done, total):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_depth_targets(photos, tmp_path / "out", teacher(), batch_size=1, progress=stop)
    with pytest.raises(DataError, match="no dataset.json"):
        FolderDataset(tmp_path / "out")
    bright = teacher()
    report = write_depth_targets(photos, tmp_path / "out", bright)
    assert (report.made, report.kept) == (2, 1) and len(FolderDataset(tmp_path / "out")) == 3
    assert not list((tmp_path / "out").rglob(".*.new*"))
    again = write_depth_targets(photos, tmp_path / "out", teacher())
    assert (again.made, again.kept) == (0, 3)


def test_a_picture_that_changed_is_done_again_and_others_join(photos, tmp_path):
    out = tmp_path / "out"
    write_depth_targets(photos, out, teacher())
    ramp(40, 32).save(photos / "b.png")
    ramp().save(photos / "d.png")
    report = write_depth_targets(photos, out, teacher())
    assert (report.made, report.kept) == (2, 2) and not check_folder(out).problems
    other = tmp_path / "others"
    other.mkdir()
    ramp().save(other / "z.png")
    write_depth_targets(other, out, teacher())
    assert [record.id for record in FolderDataset(out).records] == [
        "a.png",
        "b.png",
        "c.png",
        "d.png",
        "z.png",
    ]


def test_the_record_says_what_made_the_targets(photos, tmp_path):
    write_depth_targets(photos, tmp_path / "out", teacher(), tokenizer="feed")
    record = json.loads((tmp_path / "out" / RECORD_FILE).read_text())
    assert record["teacher"] == {"name": "bright", "weights_sha256": "0123"}
    assert record["preprocessing"]["shorter_side"] == 28 and record["tokenizer"] == "feed"
    assert "minimum and maximum" in record["normalization"]


@pytest.mark.parametrize(
    ("changes", "tokenizer", "named"),
    [
        ({"weights_hash": "4567"}, "feed", "teacher.weights_sha256 (there '0123', now '4567')"),
        ({"image_size": 42}, "feed", "preprocessing.shorter_side (there 28, now 42)"),
        ({"precision": "bf16"}, "feed", "preprocessing.precision (there 'fp32', now 'bf16')"),
        ({}, "beef", "tokenizer (there 'feed', now 'beef')"),
        ({}, None, "tokenizer (there 'feed', now None)"),
    ],
)
def test_targets_made_otherwise_are_not_mixed(photos, tmp_path, changes, tokenizer, named):
    write_depth_targets(photos, tmp_path / "out", teacher(), tokenizer="feed")
    before = (tmp_path / "out" / RECORD_FILE).read_text()
    with pytest.raises(DataError) as raised:
        write_depth_targets(photos, tmp_path / "out", teacher(**changes), tokenizer=tokenizer)
    assert f"what differs: {named}." in str(raised.value)
    assert (tmp_path / "out" / RECORD_FILE).read_text() == before


def test_targets_of_before_there_was_a_precision_are_of_fp32(photos, tmp_path):
    write_depth_targets(photos, tmp_path / "out", teacher())
    file = tmp_path / "out" / RECORD_FILE
    record = json.loads(file.read_text())
    del record["preprocessing"]["precision"]
    file.write_text(json.dumps(record))
    assert write_depth_targets(photos, tmp_path / "out", teacher()).kept == 3
    file.write_text(json.dumps(record))
    with pytest.raises(DataError, match="preprocessing.precision \\(there 'fp32', now 'fp16'\\)"):
        write_depth_targets(photos, tmp_path / "out", teacher(precision="fp16"))


def test_a_teacher_s_name_is_not_what_it_is_and_codes_can_be_added(photos, tmp_path):
    write_depth_targets(photos, tmp_path / "out", teacher())
    report = write_depth_targets(photos, tmp_path / "out", teacher(name="./copy"), tokenizer="feed")
    assert report.kept == 3
    assert json.loads((tmp_path / "out" / RECORD_FILE).read_text())["tokenizer"] == "feed"


def test_a_data_folder_gets_depth_in_place(tmp_path):
    folder = scenes_folder(tmp_path / "data", count=3)
    with pytest.raises(DataError, match="has depth of its own already: take it out of dataset.json"):
        write_depth_targets(folder, folder, teacher())
    forget_depth(folder)
    lines = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    for line in lines:
        (folder / line.pop("depth")).unlink()
    (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert write_depth_targets(folder, folder, teacher()).made == 3
    assert not check_folder(folder).problems
    dataset = FolderDataset(folder)
    assert dataset.info.depth_unit == "disparity" and dataset[0].turns and dataset[2].depth is not None
    assert write_depth_targets(folder, folder, teacher()).kept == 3


def data_folder(folder, images, roots):
    folder.mkdir()
    info = {"format": "perceptio-data", "version": 1, "roots": roots}
    (folder / "dataset.json").write_text(json.dumps(info))
    lines = [{"id": f"q{number}", "image": image, "turns": []} for number, image in enumerate(images)]
    turn = {"task": "chat", "question": "Is it late?", "answer": "No."}
    lines.append({"id": "words", "turns": [turn]})
    (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_pictures_that_stay_where_they_are(photos, tmp_path):
    out = tmp_path / "out"
    assert write_depth_targets(photos, out, teacher(), placing="path").made == 3
    assert not check_folder(out).problems and not (out / "images").exists()
    dataset = FolderDataset(out)
    assert dataset.info.roots == {"pictures": str(photos)}
    assert [(record.id, record.image, record.depth) for record in dataset.records] == [
        (name, f"pictures:{name}", f"depth/{name}.png") for name in ("a.png", "b.png", "c.png")
    ]
    assert dataset[0].image_3HW.shape == (3, 32, 40)
    ramp().save(photos / "d.png")
    report = write_depth_targets(photos, out, teacher(), placing="path")
    assert (report.made, report.kept) == (1, 3) and len(FolderDataset(out)) == 4


def test_pictures_in_a_root_get_their_depth_in_the_data_folder(photos, tmp_path):
    folder = data_folder(tmp_path / "data", ["coco:a.png", "coco:b.png", "coco:a.png"], {"coco": "../photos"})
    bright = teacher()
    assert write_depth_targets(folder, folder, bright).made == 2
    assert sum(batch[0] for batch in bright.model.batches) == 2
    assert not check_folder(folder).problems
    dataset = FolderDataset(folder)
    depths = ["depth/coco/a.png.png", "depth/coco/b.png.png", "depth/coco/a.png.png", None]
    assert [record.depth for record in dataset.records] == depths
    assert dataset.info.roots == {"coco": "../photos"} and len(list(photos.iterdir())) == 3


def test_sets_of_the_same_pictures_share_one_folder_of_depth(photos, tmp_path):
    first = data_folder(tmp_path / "refs", ["coco:a.png", "coco:b.png"], {"coco": str(photos)})
    second = data_folder(tmp_path / "umd", ["train:b.png", "train:c.png", "own.png"], {"train": "../photos"})
    ramp(40, 32).save(second / "own.png")
    out = tmp_path / "depth"
    assert write_depth_targets(first, out, teacher()).made == 2
    report = write_depth_targets(second, out, teacher())
    assert (report.made, report.kept) == (2, 1)
    assert not check_folder(out).problems
    dataset = FolderDataset(out)
    assert dataset.info.roots == {"coco": str(photos), "pictures": str(second)}
    assert [record.id for record in dataset.records] == ["coco/a.png", "coco/b.png", "coco/c.png", "own.png"]
    assert not (first / "depth").exists() and FolderDataset(second).info.depth_unit is None


def test_a_root_of_one_name_and_another_place_is_another_root(photos, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    ramp(40, 32).save(other / "a.png")
    for number, place in enumerate((photos, other)):
        folder = data_folder(tmp_path / f"data{number}", ["coco:a.png"], {"coco": str(place)})
        assert write_depth_targets(folder, tmp_path / "out", teacher()).made == 1
    dataset = FolderDataset(tmp_path / "out")
    assert dataset.info.roots == {"coco": str(photos), "coco-2": str(other)}
    assert [record.depth for record in dataset.records] == ["depth/coco/a.png.png", "depth/coco-2/a.png.png"]
    assert not check_folder(tmp_path / "out").problems


def test_pictures_of_one_name_never_share_a_sample(photos, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    ramp().save(other / "a.png")
    write_depth_targets(photos, tmp_path / "out", teacher(), placing="path")
    bright = teacher()
    with pytest.raises(
        DataError, match="pictures:a.png and pictures-2:a.png, whose depth would both be depth/a.png"
    ):
        write_depth_targets(other, tmp_path / "out", bright, placing="path")
    assert not bright.model.batches


def test_a_link_that_leads_out_of_its_root_is_said_before_the_work(photos, tmp_path):
    (tmp_path / "elsewhere.png").write_bytes((photos / "a.png").read_bytes())
    (photos / "link.png").symlink_to(tmp_path / "elsewhere.png")
    report = write_depth_targets(photos, tmp_path / "out", teacher(), placing="path")
    assert report.made == 3 and "leads out of" in report.broken[str(photos / "link.png")]


def test_two_pictures_of_a_data_folder_never_share_their_depth(tmp_path):
    (tmp_path / "dataset.json").write_text('{"format": "perceptio-data", "version": 1}')
    lines = ({"id": image, "image": image, "turns": []} for image in ("a.png", "images/a.png"))
    (tmp_path / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(DataError, match="a.png and images/a.png, whose depth would both be depth/a.png.png"):
        write_depth_targets(tmp_path, tmp_path, teacher())


def test_what_cannot_be_worked_on(photos, tmp_path):
    with pytest.raises(DataError, match="There is no folder"):
        write_depth_targets(tmp_path / "none", tmp_path / "out", teacher())
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="There is no picture in .*: a name ends with .avif"):
        write_depth_targets(tmp_path / "empty", tmp_path / "out", teacher())
    with pytest.raises(DataError, match="is not empty and holds no depth targets"):
        write_depth_targets(photos, photos, teacher())
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="could not be written"):
        write_depth_targets(photos, tmp_path / "file" / "out", teacher())


def test_nothing_but_broken_pictures(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").touch()
    with pytest.raises(DataError, match="No picture in .* can be read; of the first: .*a.png is empty"):
        write_depth_targets(tmp_path / "photos", tmp_path / "out", teacher())


def test_a_teacher_that_gives_no_numbers(photos, tmp_path):
    damaged = teacher()
    with torch.no_grad():
        damaged.model.scale.fill_(float("nan"))
    with pytest.raises(
        InputError,
        match="no depth of the first 3 pictures, so that .*a.png: the teacher gives depth that is no number",
    ):
        write_depth_targets(photos, tmp_path / "out", damaged)


def test_a_batch_that_does_not_fit_into_memory_says_what_to_lower(photos, tmp_path, monkeypatch):
    bright = teacher()

    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(bright.model, "forward", full)
    with pytest.raises(InputError, match=r"no memory for 3 pictures of 28x28 pixels: .* \(--batch-size\)"):
        write_depth_targets(photos, tmp_path / "out", bright)


class Picky(Brightness):
    """Fails on pictures whose mean is above a half."""

    def forward(self, pixel_values):
        if (pixel_values.mean((1, 2, 3)) > 1.0).any():
            raise ValueError("too bright")
        return super().forward(pixel_values)


def test_a_teacher_that_fails_on_one_picture_names_it_and_goes_on(photos, tmp_path):
    Image.new("RGB", (40, 32), (255, 255, 255)).save(photos / "bb.png")
    picky = DepthAnything(model=Picky(), name="picky", weights_hash="0123", image_size=28)
    report = write_depth_targets(photos, tmp_path / "out", picky)
    assert report.broken == {
        str(photos / "bb.png"): f"{photos / 'bb.png'}: the teacher fails on it (ValueError: too bright)."
    }
    assert report.made == 3 and [record.id for record in FolderDataset(tmp_path / "out").records] == [
        "a.png",
        "b.png",
        "c.png",
    ]


def test_a_teacher_that_fails_to_see_a_picture_names_it_and_goes_on(photos, tmp_path):
    picky = teacher()
    see = picky.prepare

    def prepare(image_3HW):
        if image_3HW.mean() > 0.9:
            raise ValueError("too bright")
        return see(image_3HW)

    picky.prepare = prepare
    Image.new("RGB", (40, 32), (255, 255, 255)).save(photos / "bb.png")
    report = write_depth_targets(photos, tmp_path / "out", picky)
    (reason,) = report.broken.values()
    assert (
        reason == f"{photos / 'bb.png'}: the teacher fails on it (ValueError: too bright)."
        and report.made == 3
    )


def test_a_map_that_is_flat_is_counted(photos, tmp_path):
    Image.new("RGB", (40, 32), (9, 9, 9)).save(photos / "gray.png")
    report = write_depth_targets(photos, tmp_path / "out", teacher())
    assert report.flat == (str(photos / "gray.png"),) and report.made == 4


METRES = TeacherSpec(unit="metres", farthest_m=10.0)


@pytest.mark.parametrize(
    ("metres", "levels"),
    [([[10.0, 5.0, 1e-9, 10.1]], [[65535, 32768, 1, 0]]), ([[2.0, 2.0]], [[13107, 13107]])],
)
def test_metres_are_stored_as_they_are_and_what_is_too_far_as_unknown(metres, levels):
    assert to_levels(np.array(metres), METRES).tolist() == levels


def test_a_teacher_of_metres_makes_a_folder_of_metres(photos, tmp_path):
    metric = teacher(spec=METRES)
    metric.prepare = lambda image_3HW: 4 + image_3HW[:, ::2, ::2]
    write_depth_targets(photos, tmp_path / "out", metric)
    dataset = FolderDataset(tmp_path / "out")
    assert dataset.info.depth_unit == "metres" and not check_folder(tmp_path / "out").problems
    values_HW = dataset.depth(0).values_HW
    assert 3.999 < values_HW.min() < 4.1 and 4.9 < values_HW.max() < 5.001


@pytest.mark.parametrize(
    ("shift", "reason"), [(-2.0, "goes down to -2 metres"), (20.0, "is farther than 10 metres everywhere")]
)
def test_metres_that_cannot_be(photos, tmp_path, shift, reason):
    metric = teacher(spec=METRES)
    metric.prepare = lambda image_3HW: shift + image_3HW
    with pytest.raises(InputError, match=f"a.png: the teacher gives depth that {reason}"):
        write_depth_targets(photos, tmp_path / "out", metric)


def test_a_damaged_record(photos, tmp_path):
    write_depth_targets(photos, tmp_path / "out", teacher())
    (tmp_path / "out" / RECORD_FILE).write_text("{}")
    with pytest.raises(DataError, match="cannot be read .*: make the targets again in another folder"):
        write_depth_targets(photos, tmp_path / "out", teacher())
