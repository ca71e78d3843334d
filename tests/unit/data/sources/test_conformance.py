"""Built-in sources are held to what plugins' are."""

import json
from itertools import count

import attrs
import numpy as np
import pytest
from layouts import write_classes, write_frames, write_hardblink, write_llava
from published import instances, write_pictures, write_refcoco

from perceptio.data.point_questions import PointRules
from perceptio.data.sources.ade20k import ADE20KSource
from perceptio.data.sources.coco import COCOSource
from perceptio.data.sources.depth_pairs import DepthPairsSource
from perceptio.data.sources.importing import import_source
from perceptio.data.sources.llava import LLaVASource
from perceptio.data.sources.marked_points import MarkedPointsSource
from perceptio.data.sources.refcoco import RefCOCOSource
from perceptio.interfaces import DepthMap, LeftOut, SourceInfo, SourceSample
from perceptio.testing import SourceConformance


class TestRefCOCO(SourceConformance):
    def published(self, folder):
        def change(held, refs):
            held["annotations"][0]["segmentation"] = []

        write_refcoco(folder, change=change)
        return RefCOCOSource(folder=str(folder), phrasing="varied")


class TestCOCO(SourceConformance):
    def published(self, folder):
        (folder / "annotations").mkdir()
        (folder / "annotations/instances_train2017.json").write_text(json.dumps(instances(4, 4, points=12)))
        write_pictures(folder / "train2017", range(101, 105))
        return COCOSource(folder=str(folder), captions=0)


class TestLLaVA(SourceConformance):
    def published(self, folder):
        write_llava(folder)
        return LLaVASource(folder=str(folder))


class TestADE20K(SourceConformance):
    def published(self, folder):
        write_classes(
            [folder / f"images/training/{n}.jpg" for n in range(2)],
            [folder / f"annotations/training/{n}.png" for n in range(2)],
            folder / "objectInfo150.txt",
        )
        return ADE20KSource(folder=str(folder))


class TestDepthPairs(SourceConformance):
    def published(self, folder):
        write_frames(folder, "bath/rgb_{}.jpg", "bath/sync_depth_{}.png")
        return DepthPairsSource(folder=str(folder), layout="nyu", questions=2, rules=PointRules(clearance=0))


class TestDepthThatIsWritten(SourceConformance):
    def published(self, folder):
        write_frames(folder, "chess/{}.color.png", "chess/{}.depth.png")
        return DepthPairsSource(folder=str(folder), layout="7-scenes")


class TestHardBLINK(SourceConformance):
    def published(self, folder):
        return MarkedPointsSource(folder=str(write_hardblink(folder)))


class TestQuestionsOnDepth(SourceConformance):
    def published(self, folder):
        pairs = TestDepthPairs().published(folder / "published")
        import_source(pairs, folder / "pairs")
        return MarkedPointsSource(folder=str(folder / "pairs"), rules=PointRules(clearance=0))


CALLS = count()


def changed(**facts):
    """Of every sample."""
    return lambda given: [attrs.evolve(one, **facts) for one in given]


@pytest.mark.parametrize(
    ("breaks", "test"),
    [
        (lambda given: given[:1], "test_its_outline_can_be_built_on_the_meta_device"),
        (lambda given: [*given, "sample"], "test_its_outline_can_be_built_on_the_meta_device"),
        (lambda given: given[next(CALLS) % 2 :], "test_the_same_sequence_is_given_each_time"),
        (changed(id="same"), "test_samples_have_ids_of_their_own"),
        (changed(image="coco:none.jpg"), "test_files_lie_in_the_roots_that_are_stated"),
        (changed(image="other:a.jpg"), "test_files_lie_in_the_roots_that_are_stated"),
        (changed(image=None), "test_files_lie_in_the_roots_that_are_stated"),
        (changed(maps={"edges": "coco:a.png"}), "test_files_lie_in_the_roots_that_are_stated"),
        (changed(depth="coco:a.png"), "test_files_lie_in_the_roots_that_are_stated"),
        (
            changed(depth=DepthMap(values_HW=np.ones((2, 2), np.float32), unit="metres")),
            "test_depth_that_is_to_be_written_is_depth",
        ),
        (changed(masks=()), "test_turns_are_about_objects_that_the_sample_has"),
        (changed(masks=None), "test_turns_are_about_objects_that_the_sample_has"),
        (lambda given: [*given, LeftOut(what="one", why="")], "test_what_is_left_out_is_told_in_words"),
    ],
)
def test_a_source_that_does_not_keep_its_promise_is_noticed(monkeypatch, breaks, test):
    suite = TestRefCOCO()
    given = [one for one in suite.fresh() if isinstance(one, SourceSample)]
    getattr(suite, test)()
    monkeypatch.setattr(RefCOCOSource, "samples", lambda self: iter(breaks(given)))
    with pytest.raises(AssertionError):
        getattr(suite, test)()


@pytest.mark.parametrize("roots", [{"coco": "pictures"}, {"coco": "/nowhere/at/all"}])
def test_a_root_that_is_no_folder_is_noticed(monkeypatch, roots):
    monkeypatch.setattr(RefCOCOSource, "info", lambda self: SourceInfo(roots=roots))
    with pytest.raises(AssertionError, match="A root is no absolute path of a folder"):
        TestRefCOCO().test_its_outline_can_be_built_on_the_meta_device()
