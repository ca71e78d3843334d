"""The suite on a random model: every figure is there, counted, and of the right questions."""

import pytest
import torch
from small import scenes_folder, small_recipe

from perceptio.data.folder import FolderDataset
from perceptio.data.scenes import Split
from perceptio.errors import DataError
from perceptio.evaluation.suite import Evaluation, parse_letter
from perceptio.model.assemble import build_model


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return FolderDataset(scenes_folder(tmp_path_factory.mktemp("data") / "test", count=4, split=Split.TEST))


def model_of(**changes):
    torch.manual_seed(0)
    return build_model(small_recipe(**changes))


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("(B)", "B"),
        ("Point C is the closest.", ""),
        ("point C is closest to the camera", "C"),
        ("The answer is D.", "D"),
        (" E ", "E"),
        ("I do not know", ""),
        ("", ""),
    ],
)
def test_a_letter_is_read_from_an_answer(text, letter):
    assert parse_letter(text) == letter


def test_every_figure_is_there_and_counts_its_questions(dataset):
    seen = []
    figures = Evaluation(model_of(), dataset, progress=lambda done, total: seen.append((done, total))).run()
    marked = [turn for n in range(4) for turn in dataset.turns(n) if turn.task == "relative_depth"]
    for name in ("relative_depth", "relative_depth_readout", "oracle_codes", "shuffled_codes"):
        assert figures[name]["count"] == len(marked)
        low, high = figures[name]["interval"]
        assert 0.0 <= low <= high <= 1.0
        assert figures[name]["mean"] == pytest.approx(
            sum(figures[name][str(n)] for n in {len(turn.points) for turn in marked})
            / len({len(turn.points) for turn in marked})
        )
    assert figures["depth_block"]["well_formed"] == 1.0
    assert figures["depth_block"]["count"] == 4
    assert figures["referring"]["count"] == sum(
        turn.task == "referring" for n in range(4) for turn in dataset.turns(n)
    )
    assert seen[-1][0] == seen[-1][1]


def test_given_true_codes_the_block_is_the_truth_s(dataset):
    evaluation = Evaluation(model_of(), dataset)
    codes = evaluation.true_codes()
    assert codes.shape == (4, 16)
    again = Evaluation(model_of(), dataset, limit=2).true_codes()
    assert torch.equal(again, codes[:2])


def test_a_model_without_perception_has_fewer_figures(dataset):
    recipe = small_recipe()
    model = model_of(
        depth=None,
        segmentation=None,
        prompt_head=None,
        heads={},
        order=(),
        codes_per_step=1,
        answer_format="direct",
        losses=recipe.losses[:1],
    )
    figures = Evaluation(model, dataset).run()
    assert {"relative_depth", "attribute"} == figures.keys()


def test_nothing_to_evaluate_on_is_refused(dataset):
    with pytest.raises(DataError, match="nothing to evaluate on"):
        Evaluation(model_of(), dataset, limit=0)
