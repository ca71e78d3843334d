"""Generation against training: whatever is written step by step is what one packed pass would have written."""

from typing import Any

import attrs
import pytest
import torch
from fakes import FakeDepthConfig, FakeMaskCodesConfig, tiny_recipe
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from perceptio.errors import InputError
from perceptio.interfaces import GenerationSettings, SequenceLayout, TokenBlock, Turn
from perceptio.model.inference.generated import Generated
from perceptio.model.inference.generation import STOP_CHECK, generate
from perceptio.model.inference.sequence import SequenceWriter, stacked_coordinates
from perceptio.model.perception_model import PerceptionModel, build_model
from perceptio.ops.kv_cache import KeyValueCache
from perceptio.recipe import Stream

TURNS = (
    Turn(question="Which point is closest?", answer="", task="", points=((0.1, 0.2), (0.7, 0.9), (0.4, 0.4))),
    Turn(question="Please segment the red sphere in this image.", answer="", task=""),
    Turn(question="is", answer="", task="", points=((0.9, 0.1),)),
)
BOTH = GenerationSettings(streams=("segmentation", "depth"), force=("segmentation", "depth"), max_objects=2)


WITH_MASK_CODES: dict[str, Any] = {
    "streams": (
        Stream(name="segmentation", tokenizer=FakeMaskCodesConfig()),
        Stream(name="depth", tokenizer=FakeDepthConfig()),
    ),
    "losses": (),
}


def model_of(codes_per_step: int = 1, **changes: Any) -> PerceptionModel:
    torch.manual_seed(0)
    recipe = tiny_recipe(**changes)
    if any(stream.name == "depth" for stream in recipe.streams):
        recipe = recipe.with_stream("depth", codes_per_step=codes_per_step)
    model = build_model(recipe).eval()
    # Random rows are small: larger ones make every choice clear of rounding.
    with torch.no_grad():
        for parameter in model.language.parameters():
            parameter.mul_(1.5)
    return model


def block_of(model: PerceptionModel, stream: str = "depth") -> TokenBlock:
    block = model.plan.streams[stream]
    assert isinstance(block, TokenBlock)
    return block


def depth_codes(written: Generated) -> Tensor:
    return written.streams["depth"].codes_BOL[:, 0]


def depth_logits(written: Generated) -> Tensor:
    return torch.cat(written.streams["depth"].logits, 2)[:, 0]


def rows_with_objects(written: Generated) -> list[int]:
    return written.streams["segmentation"].opened_BO.nonzero()[:, 0].tolist()


def images(count: int) -> list[Tensor]:
    return list(torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(1)))


@torch.inference_mode()
def run(
    model: PerceptionModel, turns: tuple[Turn, ...], settings: GenerationSettings, **kwargs: Any
) -> Generated:
    return generate(model, turns, images(len(turns)), range(len(turns)), settings, **kwargs)


@torch.inference_mode()
def replayed_logits(
    model: PerceptionModel, turn: Turn, row: int, written: Generated
) -> tuple[SequenceWriter, Tensor]:
    """One packed pass over what a row wrote, as training would lay it out."""
    objects = written.streams["segmentation"]
    text = model.language.text_tokenizer
    ids = written.text_BT[row].tolist()
    answer = ids[: ids.index(text.end_id) + 1] if text.end_id in ids else ids
    vision = model.encode_vision([images(len(TURNS))[row]])
    writer = SequenceWriter(model.plan, text).write_question(turn, vision.centers_M2)
    for codes in objects.codes_BOL[row, objects.opened_BO[row]].tolist():
        if isinstance(model.plan.streams["segmentation"], TokenBlock):
            writer.write_block("segmentation", codes)
        else:
            writer.write_special_tokens("segmentation")
    writer.write_block("depth", depth_codes(written)[row].tolist())
    readings = zip(turn.points, written.readout_BP[row].tolist(), strict=False)
    for letter, (point, code) in zip(writer.letters(len(turn.points)), readings, strict=False):
        writer.write_readout(letter, point, code)
    writer.supervise(answer)
    inputs = model.language.embed(torch.tensor(writer.ids))
    inputs[writer.vision_rows] = vision.features_MD
    layout = SequenceLayout.packed(
        stacked_coordinates(writer.positions, 3),
        [len(writer.ids)],
        stacked_coordinates(writer.query_positions, 3),
    )
    return writer, model.language.logits(model.language(inputs[None], layout)[0])


@pytest.mark.parametrize("per_step", [1, 2, 4, 16])
@pytest.mark.parametrize("changes", [{}, WITH_MASK_CODES])
def test_every_choice_is_what_a_packed_pass_predicts(per_step: int, changes: dict[str, Any]) -> None:
    model = model_of(codes_per_step=per_step, **changes)

    written = run(model, TURNS, BOTH)

    compared = 0
    for row, turn in enumerate(TURNS):
        writer, logits_TV = replayed_logits(model, turn, row, written)
        for name, block in model.plan.blocks():
            opened = written.streams[name].opened_BO[row]
            codes = written.streams[name].codes_BOL[row, opened].tolist()
            for rows, expected in zip(writer.streams[name].rows, codes, strict=True):
                chosen = logits_TV[torch.tensor(rows[1:-1])][:, block.codebooks[0].slice].argmax(-1)
                assert chosen.tolist() == expected
                compared += 1
        span = block_of(model).codebooks[0]
        for predictor, target in zip(writer.text_rows, writer.text_targets, strict=True):
            allowed = (
                span.slice
                if span.start <= target < span.start + span.size
                else slice(0, model.plan.base_vocab)
            )
            if allowed.start <= target < allowed.stop:
                assert int(logits_TV[predictor][allowed].argmax()) + allowed.start == target
                compared += 1
    assert compared >= 3 * 3


def test_a_batch_of_unequal_prompts_equals_its_rows_alone() -> None:
    model = model_of(codes_per_step=4)

    together = run(model, TURNS, BOTH)

    for row, turn in enumerate(TURNS):
        with torch.inference_mode():
            alone = generate(model, [turn], [images(3)[row]], [0], BOTH)
        assert depth_codes(together)[row].tolist() == depth_codes(alone)[0].tolist()
        torch.testing.assert_close(depth_logits(together)[row], depth_logits(alone)[0], atol=1e-4, rtol=1e-4)
        length = alone.text_BT.shape[1]
        assert together.text_BT[row, :length].tolist() == alone.text_BT[0].tolist()


def test_what_questions_about_one_image_begin_with_is_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two images for four questions: the prompts up to the last feature run as two rows, the rest as four."""
    model, index = model_of(codes_per_step=4), [1, 0, 1, 1]
    turns, pictures = (*TURNS, TURNS[0]), images(2)
    fed: list[tuple[int, ...]] = []
    forward = model.language.forward
    monkeypatch.setattr(
        model.language, "forward", lambda x, *rest: fed.append(tuple(x.shape[:2])) or forward(x, *rest)
    )

    with torch.inference_mode():
        shared = generate(model, turns, pictures, index, BOTH)
        (images_seen, beginning), (rows, rest), *_ = fed
        fed.clear()
        apart = generate(model, turns, [pictures[i] for i in index], range(4), BOTH)

    assert (images_seen, rows) == (2, 4) and beginning + rest == fed[0][1]
    torch.testing.assert_close(depth_logits(shared), depth_logits(apart), atol=1e-4, rtol=1e-4)
    assert shared.written_BW.tolist() == apart.written_BW.tolist()
    assert rows_with_objects(shared) == rows_with_objects(apart)


def test_a_cache_whose_rows_cannot_be_given_to_others_runs_each_for_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Opaque:
        def __init__(self, *size: int) -> None:
            self.write = KeyValueCache(*size).write

    model = model_of(codes_per_step=4)
    with torch.inference_mode():
        expected = generate(model, TURNS, images(1), [0, 0, 0], BOTH)
        monkeypatch.setattr(model.language, "new_cache", Opaque)
        found = generate(model, TURNS, images(1), [0, 0, 0], BOTH)
    assert found.written_BW.tolist() == expected.written_BW.tolist()


@pytest.mark.parametrize("temperature", [0.0, 5.0])
def test_the_grammar_keeps_blocks_whole_and_text_free_of_codes(temperature: float) -> None:
    model = model_of(codes_per_step=2)

    written = run(model, TURNS, attrs.evolve(BOTH, temperature=temperature))

    assert written.streams["depth"].whole_BO.all()
    assert depth_codes(written).shape == (3, 16)
    assert int(depth_codes(written).max()) < block_of(model).codebooks[0].size
    assert int(written.text_BT.max()) < model.plan.base_vocab


def test_without_the_grammar_a_random_model_breaks_its_blocks() -> None:
    written = run(model_of(), TURNS, attrs.evolve(BOTH, grammar=False))

    assert not written.streams["depth"].whole_BO.any()
    assert not written.streams["depth"].closed_BO.any()


def test_sampling_follows_its_seed() -> None:
    model = model_of()
    first, again, other = (
        depth_codes(run(model, TURNS, attrs.evolve(BOTH, temperature=1.0, seed=seed))) for seed in (0, 0, 1)
    )

    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_given_codes_take_the_place_of_the_model_s_own_and_change_the_answer() -> None:
    model = model_of()
    own = run(model, TURNS, BOTH)
    same = run(model, TURNS, BOTH, given_codes={"depth": depth_codes(own)})
    other = run(model, TURNS, BOTH, given_codes={"depth": (depth_codes(own) + 3) % 8})

    assert torch.equal(same.text_BT, own.text_BT)
    assert torch.equal(depth_codes(other), (depth_codes(own) + 3) % 8)
    assert not torch.equal(other.readout_BP, own.readout_BP)


def test_an_empty_block_is_its_markers_and_nothing_else() -> None:
    model = model_of(codes_per_step=4)
    own = run(model, TURNS, BOTH)
    empty = run(model, TURNS, BOTH, given_codes={"depth": torch.zeros(3, 0, dtype=torch.long)})

    block = block_of(model)
    for row in range(3):
        tokens = [token for token in empty.written_BW[row].tolist() if token >= 0]
        place = tokens.index(block.opening)
        assert tokens[place + 1] == block.closing
    assert depth_codes(empty).shape == depth_codes(own).shape and (depth_codes(empty) == -1).all()
    assert empty.streams["depth"].opened_BO.all() and not empty.streams["depth"].whole_BO.any()
    assert not torch.equal(empty.readout_BP, own.readout_BP)


def test_streams_that_are_not_asked_for_are_not_written() -> None:
    written = run(model_of(), TURNS, GenerationSettings(streams=()))

    assert not written.streams["depth"].opened_BO.any()
    assert rows_with_objects(written) == []


def test_unforced_streams_are_the_model_s_choice() -> None:
    model = model_of()
    with torch.no_grad():
        seg = model.plan.streams["segmentation"].opens_with
        model.language.initialize_rows(torch.tensor([seg]), torch.zeros(1, 32))
    settings = GenerationSettings(streams=("segmentation",))

    assert rows_with_objects(run(model, TURNS, settings)) == []
    forced = run(model, TURNS, attrs.evolve(settings, force=("segmentation",)))
    assert rows_with_objects(forced) == [0, 1, 2]


def test_what_cannot_be_asked_for_is_refused() -> None:
    model = model_of(streams=tiny_recipe().streams[:1], answer_format="direct", losses=())
    settings = GenerationSettings(streams=("segmentation",))
    for asked, given, message in (
        (attrs.evolve(settings, force=("depth",)), {}, "depth is forced but not among the streams"),
        (GenerationSettings(streams=("segmentaton",)), {}, "asked for.*did you mean 'segmentation'"),
        (
            settings,
            {"depth": torch.zeros(3, 16)},
            "The stream 'depth' is asked for, and the model has none such",
        ),
        (settings, {"segmentation": torch.zeros(3, 1)}, "Codes of segmentation cannot be given"),
        (GenerationSettings(readout=True), {}, "A read-out speaks the codes of a grid, and no stream"),
    ):
        with pytest.raises(InputError, match=message):
            run(model, TURNS, asked, given_codes=given)
    with pytest.raises(InputError, match="Inputs of segmentation cannot be given: it is not written as spec"):
        run(model, TURNS, settings, given_inputs={"segmentation": torch.zeros(3, 1, 32)})


def test_a_marker_of_a_stream_left_out_is_never_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that would open a depth block first and an object second opens the object where depth is left out."""
    model = model_of(codes_per_step=2)
    wishes = torch.zeros(model.plan.size)
    wishes[block_of(model).opening], wishes[model.plan.streams["segmentation"].opens_with] = 1000.0, 500.0
    logits = model.language.logits
    monkeypatch.setattr(model.language, "logits", lambda hidden: logits(hidden) + wishes)

    both = run(model, TURNS, GenerationSettings(max_objects=1))
    masks_alone = run(model, TURNS, GenerationSettings(streams=("segmentation",), max_objects=1))

    assert rows_with_objects(both) == []
    assert both.streams["depth"].opened_BO.all()
    assert rows_with_objects(masks_alone) == [0, 1, 2]


class HostWaits(TorchDispatchMode):
    """Counts the operations for which the host waits until the device has a value."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        waits = ("is_nonzero", "_local_scalar_dense", "nonzero")
        self.count += operation.overloadpacket.__name__ in waits
        return operation(*args, **(kwargs or {}))


@pytest.mark.parametrize("codes_per_step", [1, 4])
def test_the_host_never_waits_per_token(codes_per_step):
    """A block of 16 codes costs no wait at all, text one in `STOP_CHECK` tokens."""
    model, waits = model_of(codes_per_step=codes_per_step), []
    for tokens in (STOP_CHECK, 4 * STOP_CHECK):
        settings = GenerationSettings(streams=("depth",), force=("depth",), max_new_tokens=tokens)
        with HostWaits() as counted:
            run(model, TURNS, settings)
        waits.append(counted.count)
    assert waits[0] <= 2 and waits[1] - waits[0] <= 3
