"""A published data set as a data folder: what is written, linked, left out, stopped and gone on with."""

import errno
import json
import os
import re
import resource
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import attrs
import numpy as np
import pytest
from PIL import Image
from published import picture_name, write_large_refcoco, write_refcoco

from perceptio.data.folder import DatasetInfo, FolderDataset
from perceptio.data.folder.check import check_folder
from perceptio.data.sources.coco import COCOSource
from perceptio.data.sources.depth_pairs import DepthPairsSource
from perceptio.data.sources.importing import import_source
from perceptio.data.sources.refcoco import RefCOCOSource
from perceptio.errors import DataError, InterfaceError
from perceptio.interfaces import Kind, LeftOut, SourceConfig, SourceInfo, SourceSample, TurnRecord
from perceptio.ops.json_files import write_json

REAL = Path(__file__).parents[5] / "shared/data"
real = pytest.mark.skipif(not REAL.is_dir(), reason=f"there is no {REAL}, which holds some real pictures")
PICTURES = "images/mscoco/images/train2014"


@pytest.fixture
def published(tmp_path):
    return write_refcoco(tmp_path / "published")


def refcoco(folder, **settings):
    return RefCOCOSource(folder=str(folder), **settings)


def names_in(folder):
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


def test_the_folder_is_one_and_holds_no_picture(tmp_path, published):
    report = import_source(refcoco(published), tmp_path / "out")
    assert (report.samples, report.turns, report.left_out, report.kept) == (3, {"referring": 18}, {}, 0)
    assert set(names_in(tmp_path / "out")) - {".lock"} == {"dataset.json", "import.json", "samples.jsonl"}
    assert not check_folder(tmp_path / "out").problems
    dataset = FolderDataset(tmp_path / "out")
    assert dataset.info.roots == {"coco": str(published / PICTURES)}
    turn = dataset[1].turns[4]
    assert turn.masks[0].shape == (48, 64) and turn.masks[0].any()
    assert dataset.records[1].turns[4].id == "ref3-sent10"
    made_by = json.loads((tmp_path / "out/import.json").read_text())
    assert made_by["source"]["component"] == "source:refcoco" and made_by["samples"] == 3


def test_hard_links_make_a_folder_that_needs_no_other(tmp_path, published):
    import_source(refcoco(published), tmp_path / "out", pictures="link")
    assert FolderDataset(tmp_path / "out").info.roots == {}
    for number in (101, 102, 103):
        name = picture_name(number)
        assert os.path.samefile(tmp_path / "out/images" / name, published / PICTURES / name)
    assert not check_folder(tmp_path / "out").problems
    (published / PICTURES).rename(published / "elsewhere")
    assert not check_folder(tmp_path / "out").problems


@pytest.mark.parametrize("pictures", ["path", "link"])
@pytest.mark.parametrize("stopped_at", [1, 2])
def test_an_import_that_was_stopped_goes_on_and_ends_as_if_it_had_not_been(
    tmp_path, published, pictures, stopped_at
):
    def stop(done, total):
        assert total == 3
        if done == stopped_at:
            raise KeyboardInterrupt

    import_source(refcoco(published), tmp_path / "whole", pictures=pictures)
    with pytest.raises(KeyboardInterrupt):
        import_source(refcoco(published), tmp_path / "out", pictures=pictures, progress=stop)
    with pytest.raises(DataError, match="out is not finished, as its writing was stopped"):
        FolderDataset(tmp_path / "out")
    report = import_source(refcoco(published), tmp_path / "out", pictures=pictures)
    assert (report.samples, report.turns, report.kept) == (3, {"referring": 18}, stopped_at)
    for name in names_in(tmp_path / "whole"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def stopped(source, out, **settings):
    """An import that was stopped after its first sample."""

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_source(source, out, progress=stop, **settings)


def test_what_was_begun_is_not_gone_on_with_otherwise(tmp_path, published):
    stopped(refcoco(published), tmp_path / "out")
    with pytest.raises(
        DataError,
        match=r"out has samples of an import with other settings: seed \(there 0, now 3\)\. Set them as they were to "
        r"go on with it; or remove the folder, or choose another --out, to begin anew",
    ):
        import_source(refcoco(published, seed=3), tmp_path / "out")
    depth = depth_folder(tmp_path / "depths", {})
    with pytest.raises(DataError, match=r"other settings: --depth \(there None, now '.*depths'\)\. Set"):
        import_source(refcoco(published), tmp_path / "out", depth=depth)
    with pytest.raises(DataError, match=r"other settings: --pictures \(there 'path', now 'link'\)\. Set"):
        import_source(refcoco(published), tmp_path / "out", pictures="link")
    write_refcoco(published, change=lambda held, refs: refs[0]["sentences"][0].update(sent="another"))
    with pytest.raises(
        DataError, match="out was begun from other files: its sample 'refcoco-unc-train-101' is not"
    ):
        import_source(refcoco(published), tmp_path / "out")


@pytest.mark.parametrize("pictures", ["path", "link"])
def test_an_import_that_failed_before_its_first_sample_is_corrected_in_its_place(
    tmp_path, published, pictures
):
    shutil.copytree(published, elsewhere := tmp_path / "elsewhere")
    shutil.rmtree(elsewhere / "images/mscoco/images/train2014")
    (elsewhere / "images/mscoco/images/train2014").mkdir()
    out = tmp_path / "out"
    with pytest.raises(DataError, match="is missing|is not there"):
        import_source(refcoco(elsewhere), out, pictures=pictures)
    report = import_source(refcoco(published, seed=3), out, pictures=pictures)
    assert report.kept == 0 and len(FolderDataset(out)) == report.samples
    alone = import_source(refcoco(published, seed=3), tmp_path / "alone", pictures=pictures)
    assert (
        names_in(out) == names_in(alone.folder)
        and (out / "import.json").read_bytes() == (alone.folder / "import.json").read_bytes()
    )


@pytest.mark.parametrize("pictures", ["path", "link"])
def test_an_import_that_filled_the_disk_goes_on_when_there_is_room(tmp_path, published, pictures):
    out, (soft, hard) = tmp_path / "out", resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (700, hard))
    try:
        with pytest.raises(
            DataError, match=r"out could not be written \(File too large\): choose another place"
        ):
            import_source(refcoco(published), out, pictures=pictures)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert 0 < (out / "samples.jsonl").stat().st_size <= 700
    with pytest.raises(DataError, match="is not finished, as its writing was stopped"):
        FolderDataset(out)
    assert import_source(refcoco(published), out, pictures=pictures).samples == len(FolderDataset(out))
    alone = import_source(refcoco(published), tmp_path / "alone", pictures=pictures).folder
    assert (out / "samples.jsonl").read_bytes() == (alone / "samples.jsonl").read_bytes()
    assert check_folder(out).problems == ()


def test_what_is_left_out_is_counted_by_reason_with_the_first_of_it(tmp_path):
    def change(held, refs):
        for one in held["annotations"][:5]:
            one["segmentation"].append([1.0, 2.0])

    write_refcoco(tmp_path / "published", change=change)
    report = import_source(refcoco(tmp_path / "published"), tmp_path / "out")
    (held,) = report.left_out.values()
    assert list(report.left_out) == ["a polygon has fewer than three points"]
    assert held.count == 5 and held.examples == [f"annotation {number}" for number in range(1001, 1006)]
    assert json.loads((tmp_path / "out/import.json").read_text())["left_out"] == {
        "a polygon has fewer than three points": {"count": 5, "examples": held.examples}
    }


def depth_folder(folder, pictures, metres=False):
    """A data folder with depth of pictures, which lie in it or elsewhere."""
    (folder / "depth").mkdir(parents=True)
    lines = []
    for number, (image, _) in enumerate(pictures.items()):
        Image.fromarray(np.full((48, 64), 1000 + number, dtype=np.uint16)).save(
            folder / f"depth/{number}.png"
        )
        lines.append({"id": str(number), "image": image, "depth": f"depth/{number}.png", "turns": []})
    roots = {one.partition(":")[0]: str(place.parent) for one, place in pictures.items() if ":" in one}
    unit = ("metres", 0.001) if metres else ("disparity", 1 / 65535)
    write_json(
        folder / "dataset.json", DatasetInfo(depth_unit=unit[0], depth_scale=unit[1], roots=roots).to_json()
    )
    (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_one_depth_map_serves_several_sets(tmp_path):
    for dataset in ("refcoco", "refcoco+"):
        write_refcoco(tmp_path / "published", dataset=dataset)
    place = tmp_path / "published" / PICTURES
    names = [picture_name(number) for number in (101, 103)]
    depth = depth_folder(tmp_path / "depths", {f"all:{name}": place / name for name in names})
    for dataset in ("refcoco", "refcoco+"):
        out = tmp_path / dataset
        report = import_source(refcoco(tmp_path / "published", dataset=dataset), out, depth=depth)
        assert report.notes == {f"the picture has no depth in {depth}": 1}
        held = FolderDataset(out)
        assert [record.depth for record in held.records] == ["depth:depth/0.png", None, "depth:depth/1.png"]
        assert held.info.depth_unit == "disparity" and np.isclose(held.depth(2).values_HW, 1001 / 65535).all()
        assert not check_folder(out).problems
    linked = tmp_path / "linked"
    import_source(refcoco(tmp_path / "published"), linked, depth=depth, pictures="link")
    assert os.path.samefile(linked / "depth/depth/depth/1.png", depth / "depth/1.png")
    assert not check_folder(linked).problems


def test_depth_of_copies_is_known_by_name_and_bytes(tmp_path, published):
    """A folder of pictures that a teacher went through has copies of them; another picture of the name is none."""
    depth = tmp_path / "depths"
    for folder in ("a", "b"):
        (depth / "images" / folder).mkdir(parents=True)
    images = [f"a/{picture_name(101)}", f"a/{picture_name(102)}", f"b/{picture_name(102)}"]
    for one in images:
        (original,) = published.rglob(Path(one).name)
        shutil.copy(original, depth / "images" / one)
    Image.new("RGB", (64, 48), "red").save(depth / "images" / images[1])
    depth_folder(depth, {f"images/{one}": depth / "images" / one for one in images})
    import_source(refcoco(published), tmp_path / "out", depth=depth)
    records = FolderDataset(tmp_path / "out").records
    assert [record.depth for record in records] == ["depth:depth/0.png", "depth:depth/2.png", None]


@attrs.frozen(kw_only=True)
class Made(SourceConfig):
    """A source whose samples a test gives."""

    name: ClassVar[str] = "made"
    kind: ClassVar[Kind] = Kind.SOURCE
    interface: ClassVar[tuple[int, int]] = (2, 0)

    given: ClassVar[tuple] = ()
    roots: ClassVar[dict] = {}
    unit: ClassVar[str | None] = None

    def info(self) -> SourceInfo:
        return SourceInfo(roots=self.roots, depth_unit=self.unit)

    def samples(self) -> Iterable[SourceSample | LeftOut]:
        return iter(self.given)


def words(id="a", **facts):
    return SourceSample(
        **({"id": id, "image": None, "turns": (TurnRecord(task="chat", question="?", answer="!"),)} | facts)
    )


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Import what is given."""
    monkeypatch.setattr(
        "perceptio.data.sources.importing.to_json", lambda source, registry: {"folder": source.folder}
    )

    def made(*given, roots=None, unit=None, **settings):
        kind = type("Made", (Made,), {"given": given, "roots": roots or {}, "unit": unit})
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        return import_source(kind(folder=str(tmp_path)), tmp_path / "out", **settings)

    return made


def test_a_conversation_about_no_picture_keeps_its_order(made, tmp_path):
    made(words(ordered=True), words("b"))
    records = FolderDataset(tmp_path / "out").records
    assert [record.image for record in records] == [None, None]
    assert [record.ordered for record in records] == [True, False]


def test_a_source_that_does_not_keep_its_promise_is_told(made, tmp_path):
    with pytest.raises(InterfaceError, match="A source gave 3; its samples must be SourceSample or LeftOut"):
        made(3)
    with pytest.raises(DataError, match="Two samples have the id 'a': ids must differ"):
        made(words(), words())
    with pytest.raises(DataError, match="There is no folder .*/nowhere, which is to be the root 'far'"):
        made(words(), roots={"far": str(tmp_path / "nowhere")})
    with pytest.raises(
        DataError, match="Sample 'b' cannot be written: image 'mine:x.png' begins with the root 'mine'"
    ):
        made(words("b", image="mine:x.png"), roots={"far": str(tmp_path)})


def test_fewer_samples_than_there_are_of_an_import_that_was_stopped_are_told(made, monkeypatch):
    def stop(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made(words(), words("b"), words("c"), progress=stop)
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    with pytest.raises(
        DataError, match="out was begun from other files: it has 2 samples, and the source gives 1 now"
    ):
        made(words())


def test_where_nothing_is_left_the_reasons_are_told(made):
    with pytest.raises(DataError, match=r"Nothing of .* is left to be imported: it is blue \(2 times\)"):
        made(LeftOut(what="one", why="it is blue"), LeftOut(what="two", why="it is blue"))
    with pytest.raises(DataError, match="Nothing of .* is left to be imported: it is empty"):
        made()


def test_links_that_cannot_be_made_are_told(made, tmp_path, monkeypatch):
    (tmp_path / "pictures").mkdir()
    roots = {"far": str(tmp_path / "pictures")}
    with pytest.raises(DataError, match="pictures/x.png is missing, and a sample names it"):
        made(words(image="far:x.png"), roots=roots, pictures="link")
    with pytest.raises(
        DataError, match="The source names the file 'far:../secret.png', which must be a path inside"
    ):
        made(words(image="far:../secret.png"), roots=roots, pictures="link")
    Image.new("RGB", (8, 8)).save(tmp_path / "pictures/x.png")
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    (tmp_path / "out/images").mkdir(parents=True)
    (tmp_path / "out/images/x.png").write_bytes(b"another")
    with pytest.raises(DataError, match="out/images/x.png is there and is another file than .*: remove it"):
        made(words(image="far:x.png"), roots=roots, pictures="link")
    (tmp_path / "out/images/x.png").unlink()

    def refuse(*_):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(
        DataError, match=r"cannot have a hard link at .* \(Invalid cross-device link\): import with --pic"
    ):
        made(words(image="far:x.png"), roots=roots, pictures="link")


def test_a_place_or_a_depth_that_does_not_fit_is_told(made, tmp_path, published):
    with pytest.raises(DataError, match="pictures is 'copy'; it must be path or link"):
        made(words(), pictures="copy")
    depth = depth_folder(tmp_path / "depths", {})
    with pytest.raises(DataError, match="The source has depth of its own: leave --depth out"):
        made(words(), unit="metres", depth=depth)
    (tmp_path / "plain").mkdir()
    write_json(tmp_path / "plain/dataset.json", DatasetInfo().to_json())
    (tmp_path / "plain/samples.jsonl").write_text("")
    with pytest.raises(DataError, match="plain has no depth: make it with `perceptio depth-targets`"):
        made(words(), depth=tmp_path / "plain")
    import_source(refcoco(published), tmp_path / "again")
    with pytest.raises(
        DataError, match="again is a data folder already: choose another folder, or remove it"
    ):
        import_source(refcoco(published), tmp_path / "again")


def test_the_data_set_that_imports_are_timed_with_is_one(tmp_path):
    write_large_refcoco(tmp_path / "published", pictures=4)
    report = import_source(refcoco(tmp_path / "published"), tmp_path / "out")
    assert (report.samples, report.turns, report.left_out) == (4, {"referring": 30}, {})
    assert not check_folder(tmp_path / "out").problems


@real
def test_real_pictures_become_a_folder_in_which_nothing_is_wrong(tmp_path):
    tiny = COCOSource(folder=str(REAL / "tiny_coco"))
    report = import_source(tiny, tmp_path / "tiny")
    assert report.samples >= 45 and report.turns["caption"] == 50 and report.turns["referring"] > 80
    assert not check_folder(tmp_path / "tiny").problems
    panoptic = COCOSource(
        folder=str(REAL / "coco128"), objects="panoptic", captions=0, split="val2017", missing="leave_out"
    )
    report = import_source(panoptic, tmp_path / "panoptic")
    assert report.turns["referring"] > 200 and not check_folder(tmp_path / "panoptic").problems


# -- the command --------------------------------------------------------------------------------------------------


def test_the_command_says_what_was_taken_and_what_was_left_out(run, tmp_path):
    def change(held, refs):
        held["annotations"][0]["segmentation"] = [[1.0, 2.0, 3.0, 4.0]]

    write_refcoco(tmp_path / "published", change=change)
    status, out, err = run(
        "data",
        "import",
        "refcoco",
        tmp_path / "published",
        "--out",
        tmp_path / "out",
        "--set",
        "phrasing=varied",
    )
    assert (status, err) == (0, "")
    assert "Left out 1 time, because its mask has no pixel: ref 0 with its 3 expressions." in out
    assert f"3 samples; turns: 15 referring. {tmp_path / 'out'}" in out
    assert run("data", "check", tmp_path / "out")[0] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("refcocoo", "."), "There is no source component 'refcocoo'; did you mean 'refcoco'?"),
        (("refcoco", ".", "--set", "splits=val"), "refcoco has no setting 'splits'; did you mean 'split'?"),
        (
            ("refcoco", ".", "--set", "dataset=vqa"),
            "refcoco.dataset is 'vqa'; it must be 'refcoco' or 'refcoco+' or",
        ),
        (("coco", ".", "--set", "expressions=many"), "coco.expressions is 'many'; it must be int"),
        (("coco", ".", "--set", "seed"), "--set seed is no KEY=VALUE; write, say, --set split=val"),
        (("coco", ".", "--pictures", "copy"), "pictures is 'copy'; it must be path or link"),
        (("acme/mine", "."), "There is no source component 'acme/mine'"),
    ],
)
def test_what_was_asked_wrongly_is_one_sentence(run, tmp_path, words, message):
    status, _, err = run("data", "import", *words, "--out", tmp_path / "out")
    assert status == 2 and message in err and "Traceback" not in err


PAGE = Path(__file__).parents[4] / "docs/plugins.md"


def test_a_plugin_s_source_is_imported_by_name(run, tmp_path, monkeypatch):
    monkeypatch.setenv("PERCEPTIO_PLUGIN_FILES", "")
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (plugin,) = (block for block in blocks if "class NotesConfig" in block)
    (tmp_path / "mine.py").write_text(plugin.replace('ending: str = ".txt"', "ending: str"))
    (tmp_path / "held").mkdir()
    for name in ("a", "b", "c"):
        Image.new("RGB", (8, 8)).save(tmp_path / f"held/{name}.png")
    for name in ("a", "b"):
        (tmp_path / f"held/{name}.txt").write_text(f"note {name}")
    asked = ("--plugin", tmp_path / "mine.py", "data", "import", "mine/notes", tmp_path / "held")
    status, _, err = run(*asked, "--out", tmp_path / "out")
    assert status == 2 and "mine/notes is incomplete: it has no ending" in err
    status, out, _ = run(*asked, "--out", tmp_path / "out", "--set", "ending=.txt")
    assert status == 0 and "Left out 1 time, because there is no note beside it: c.png." in out
    assert "2 samples; turns: 2 chat." in out
    assert [sample.turns[0].answer for sample in FolderDataset(tmp_path / "out")] == ["note a", "note b"]
    assert "mine/notes" in run("--plugin", tmp_path / "mine.py", "components")[1]


def floats_and_levels(folder):
    """Depth that 16 bits say, and depth that they do not; each with a pixel that only a number says is unknown."""
    levels_HW = np.full((9, 10), 2000, np.uint16)
    levels_HW[0, 0] = 65535
    for name, values_HW in (("a", levels_HW), ("b", levels_HW.astype(np.float32) / 3)):
        Image.new("RGB", (10, 9)).save(folder / f"{name}.jpg")
        np.save(folder / f"{name}.npy", values_HW)
    images = {"images": "{key}.jpg", "depth": "{key}.npy"}
    return DepthPairsSource(folder=str(folder), scale=0.001, unknown=(65535, 21845), **images)


@pytest.mark.parametrize("pictures", ["path", "link"])
def test_depth_that_no_file_says_is_written_in_the_folder_exactly(tmp_path, pictures):
    (tmp_path / "published").mkdir()
    source = floats_and_levels(tmp_path / "published")
    stopped(source, tmp_path / "out", pictures=pictures)
    report = import_source(source, tmp_path / "out", pictures=pictures)
    assert report.kept == 1 and list(report.notes.values()) == [2]
    assert names_in(tmp_path / "out/depth") == ["00000001.png", "00000002.npy"]
    assert not check_folder(tmp_path / "out").problems
    dataset = FolderDataset(tmp_path / "out")
    for number, metres in ((0, 2.0), (1, 2.0 / 3)):
        expected_HW = np.full((9, 10), metres, np.float32)
        expected_HW[0, 0] = np.nan
        np.testing.assert_allclose(dataset.depth(number).values_HW, expected_HW, rtol=1e-6)
    assert json.loads((tmp_path / "out/import.json").read_text())["notes"] == dict(report.notes)
