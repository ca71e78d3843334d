"""What sources give is trained on and evaluated: text alone, conversations, drawn points, depth with questions."""

import attrs
import pytest
from layouts import write_classes, write_frames, write_hardblink, write_llava
from small import small_recipe

from perceptio.data.folder import FolderDataset
from perceptio.data.point_questions import PointRules
from perceptio.data.sources.ade20k import ADE20KSource
from perceptio.data.sources.depth_pairs import DepthPairsSource
from perceptio.data.sources.importing import import_source
from perceptio.data.sources.llava import LLaVASource
from perceptio.data.sources.marked_points import MarkedPointsSource
from perceptio.evaluation.evaluation import Evaluation
from perceptio.recipe import DataFolder
from perceptio.training.trainer import train


def sources(folder):
    """Small published files, and the sources that read them, by the task of their turns."""
    write_llava(folder / "llava")
    write_frames(folder / "nyu", "bath/rgb_{}.jpg", "bath/sync_depth_{}.png")
    write_classes(
        [folder / f"ade/images/training/{n}.jpg" for n in range(2)],
        [folder / f"ade/annotations/training/{n}.png" for n in range(2)],
        folder / "ade/objectInfo150.txt",
    )
    write_hardblink(folder / "hardblink")
    rules = PointRules(clearance=0)
    return {
        "conversation": LLaVASource(folder=str(folder / "llava")),
        "relative_depth": DepthPairsSource(
            folder=str(folder / "nyu"), layout="nyu", questions=3, rules=rules
        ),
        "referring": ADE20KSource(folder=str(folder / "ade")),
        "drawn_points": MarkedPointsSource(folder=str(folder / "hardblink")),
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    folders = {}
    for task, source in sources(folder).items():
        import_source(source, folder / "data" / task)
        folders[task] = folder / "data" / task
    recipe = small_recipe()
    data = attrs.evolve(
        recipe.data,
        folders=tuple(DataFolder(path=str(place)) for place in folders.values()),
        mixture=dict.fromkeys(folders, 1.0),
    )
    return train(attrs.evolve(recipe, data=data), folder / "run"), folders


@pytest.mark.parametrize("task", ["relative_depth", "referring", "drawn_points"])
def test_what_was_imported_is_trained_on_and_evaluated(run, task):
    model, folders = run
    dataset = FolderDataset(folders[task])
    figures = Evaluation(model, dataset).run()
    assert figures[task]["count"] == sum(len(sample.turns) for sample in dataset)
