"""Conformance tests of a data source."""

import os
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import attrs

from perceptio.interfaces import DepthMap, Kind, LeftOut, SourceConfig, SourceSample
from perceptio.interfaces.depth_maps import check_values
from perceptio.testing.component import ComponentConformance


def _comparable(given: Any) -> Any:
    """Return what a source yielded, with depth as bytes, to compare it."""
    depth = getattr(given, "depth", None)
    if not isinstance(depth, DepthMap):
        return given
    return attrs.evolve(
        given, depth=f"{depth.unit} {depth.values_HW.shape} {depth.values_HW.tobytes().hex()}"
    )


class SourceConformance(ComponentConformance):
    """Define `published`, which writes a small data set in the source's layout."""

    kind = Kind.SOURCE

    def published(self, folder: Path) -> SourceConfig:
        """Write a data set of at least two samples into an empty folder.

        Returns:
            The config that reads it.
        """
        raise NotImplementedError(f"{type(self).__name__} has no published: add the method.")

    @cached_property
    def config(self) -> SourceConfig:
        """The config, for a folder that exists as long as the test."""
        self._folder = TemporaryDirectory()
        return self.published(Path(self._folder.name))

    def fresh(self) -> Any:
        """Return what the source yields, in order."""
        return list(self.config.samples())

    def test_its_outline_can_be_built_on_the_meta_device(self) -> None:
        """A source builds nothing. Its folders exist, and it yields samples and what is left out."""
        info = self.config.info()
        assert all(os.path.isabs(place) and os.path.isdir(place) for place in info.roots.values()), (
            "A root is no absolute path of a folder."
        )
        assert info.depth_scale is None or info.depth_unit is not None, "A scale needs a unit."
        given = self.fresh()
        assert all(isinstance(one, SourceSample | LeftOut) for one in given)
        assert len(self._samples()) >= 2, "published gives fewer than two samples."

    def test_the_same_sequence_is_given_each_time(self) -> None:
        """An interrupted import relies on the same order to continue in another process."""
        config = self.config
        once, again, anew = (
            list(map(_comparable, given)) for given in (self.fresh(), config.samples(), config.samples())
        )
        assert once == again == anew

    def test_samples_have_ids_of_their_own(self) -> None:
        """Ids are unique: answers are matched to samples by them."""
        ids = [sample.id for sample in self._samples()]
        assert all(isinstance(one, str) and one for one in ids) and len(set(ids)) == len(ids)

    def test_files_lie_in_the_roots_that_are_stated(self) -> None:
        """A path is `ROOT:PATH`, and stays inside the root."""
        info = self.config.info()
        for sample in self._samples():
            assert sample.image is not None or not (sample.depth or sample.masks or sample.maps)
            assert set(sample.maps) <= set(info.maps), "A map is not stated by info."
            assert sample.depth is None or info.depth_unit is not None, "Depth has no unit: state it in info."
            for path in (sample.image, sample.depth, sample.masks, *sample.maps.values()):
                if isinstance(path, str):
                    root, colon, inside = path.partition(":")
                    assert colon and root in info.roots, f"{path} begins with no root of info."
                    assert ".." not in inside.split("/") and not inside.startswith("/")
                    assert os.path.isfile(os.path.join(info.roots[root], inside)), f"{path} is not there."

    def test_turns_are_about_objects_that_the_sample_has(self) -> None:
        """Each object has a number and a mask of the image's size."""
        for sample in self._samples():
            assert sample.turns or sample.image is not None
            objects = {number for turn in sample.turns for number in turn.objects}
            if isinstance(sample.masks, tuple):
                numbers = [mask.id for mask in sample.masks]
                assert len(set(numbers)) == len(numbers) and all(number >= 1 for number in numbers)
                assert len({mask.size for mask in sample.masks}) <= 1, (
                    "Masks of one picture have several sizes."
                )
                assert objects <= set(numbers), "A turn is about an object that has no mask."
            assert not objects or sample.masks is not None

    def test_what_is_left_out_is_told_in_words(self) -> None:
        """Everything left out has a name, and a reason by which it is counted."""
        for one in self.fresh():
            if isinstance(one, LeftOut):
                assert isinstance(one.what, str) and one.what and isinstance(one.why, str) and one.why

    def test_depth_that_is_to_be_written_is_depth(self) -> None:
        """Depth is float32, known somewhere, and in the stated unit."""
        for sample in self._samples():
            if isinstance(sample.depth, DepthMap):
                assert sample.depth.unit == self.config.info().depth_unit, (
                    "Depth is in another unit than info says."
                )
                check_values(sample.depth, f"The depth of {sample.id!r}")

    def _samples(self) -> list[SourceSample]:
        return [one for one in self.fresh() if isinstance(one, SourceSample)]
