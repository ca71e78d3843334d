"""Asking: what comes back, and what is refused."""

from concurrent.futures import ThreadPoolExecutor

import attrs
import numpy as np
import pytest
import torch
from fakes import FakeDepthConfig, FakeMaskCodesConfig, tiny_recipe
from PIL import Image

from perceptio.errors import CheckpointError, InputError, UnknownNameError
from perceptio.interfaces import GenerationSettings
from perceptio.model.perception_model import build_model
from perceptio.recipe import Stream

QUESTION = "Which point is closest to the camera?"
POINTS = [(0.25, 0.25), (0.75, 0.5), (0.5, 0.9)]
MASK_CODES = {
    "streams": (
        Stream(name="segmentation", tokenizer=FakeMaskCodesConfig()),
        Stream(name="depth", tokenizer=FakeDepthConfig()),
    ),
    "losses": (),
}
PERCEIVE = GenerationSettings(
    streams=("segmentation", "depth"), force=("segmentation", "depth"), max_objects=1, max_new_tokens=4
)


def model_of(**changes):
    torch.manual_seed(0)
    return build_model(tiny_recipe(**changes)).eval()


@pytest.fixture(scope="module")
def model():
    return model_of()


def image(height=20, width=30):
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(height))


def test_an_answer_carries_what_was_perceived(model):
    answer = model.ask(image(), QUESTION, points=POINTS, settings=PERCEIVE)
    (mask_HW,) = answer["segmentation"]
    assert mask_HW.shape == (20, 30) and mask_HW.dtype == bool
    size = model.recipe.stream("depth").tokenizer.image_size
    assert answer["depth"].unit == "metres" and answer["depth"].values_HW.shape == size
    assert len(answer.codes["depth"]) == 16 and len(answer.readout) == 3
    with pytest.raises(UnknownNameError, match="The model has no stream 'dept'; did you mean 'depth'"):
        answer["dept"]
    assert answer.tokens[:2] == ("[SEG]", "<depth_start>")
    assert answer.tokens[18] == "<depth_end>"
    assert answer.seconds > 0


def test_the_order_of_the_call_is_the_order_of_the_tokens(model):
    perceive, settings = ("depth", "segmentation"), GenerationSettings(max_objects=1)
    tokens = model.ask(image(), "What color is it?", perceive=perceive, settings=settings).tokens
    assert tokens[0] == "<depth_start>" and tokens[17:19] == ("<depth_end>", "[SEG]")


def test_without_perception_there_is_none(model):
    settings = GenerationSettings(max_new_tokens=3)
    answer = model.ask(image(), "What color is it?", perceive=(), settings=settings)
    assert answer.decoded == {"segmentation": (), "depth": None}
    assert answer.codes == {"depth": ()} and answer.readout == ()


def test_streams_that_the_model_has_not_are_refused(model):
    with pytest.raises(InputError, match="The stream 'edges' is asked for, and the model has none such"):
        model.ask(image(), QUESTION, perceive=("depth", "edges"))
    with pytest.raises(InputError, match=r"perceive is 'depth': give a tuple of names, such as \('depth',\)"):
        model.ask(image(), QUESTION, perceive="depth")


def test_a_batch_gives_what_each_gives_alone(model):
    questions = [
        (image(), QUESTION, POINTS),
        (image(40, 24), "What is this?", ()),
        (image(), QUESTION, POINTS[:2]),
    ]
    together = model.ask_batch(questions, settings=PERCEIVE)
    for answer, (picture, question, points) in zip(together, questions, strict=True):
        alone = model.ask(picture, question, points=points, settings=PERCEIVE)
        assert alone.tokens == answer.tokens
        np.testing.assert_array_equal(alone["segmentation"], answer["segmentation"])
    assert model.ask_batch([]) == []


def test_a_question_may_be_about_no_image(model):
    settings = GenerationSettings(max_new_tokens=3)
    alone = model.ask(None, "What color is it?", settings=settings)
    assert alone.decoded == {"segmentation": (), "depth": None} and alone.tokens
    mixed = [(image(), QUESTION, ()), (None, "What color is it?", ()), (image(), "What is this?", ())]
    answers = model.ask_batch(mixed, settings=settings)
    assert answers[1].tokens == alone.tokens
    assert answers[2].tokens == model.ask(image(), "What is this?", settings=settings).tokens
    with pytest.raises(InputError, match="Without an image there is nothing to perceive: ask with streams"):
        model.ask(None, QUESTION, perceive=("depth",))
    with pytest.raises(InputError, match="Points mark places of an image, and there is none: give one, or"):
        model.ask(None, QUESTION, points=POINTS)


def test_files_pillow_images_arrays_and_tensors_are_the_same_image(model, tmp_path):
    pixels = (image() * 255).round().to(torch.uint8)
    picture = Image.fromarray(pixels.permute(1, 2, 0).numpy())
    picture.save(tmp_path / "image.png")
    answers = [
        model.ask(given, QUESTION, points=POINTS, settings=PERCEIVE)
        for given in (
            tmp_path / "image.png",
            str(tmp_path / "image.png"),
            picture,
            np.asarray(picture),
            np.asarray(picture)[:, ::-1][:, ::-1],
            pixels.float() / 255,
            pixels,
        )
    ]
    assert len({answer.tokens for answer in answers}) == 1


@pytest.mark.parametrize(
    ("given", "question", "points", "message"),
    [
        (image(), "  ", (), "The question is empty"),
        (image(), None, (), "The question is None; it must be a text"),
        (image(), QUESTION, 5, "The points are 5; they must be a list of pairs"),
        (image(), "caf\udce9?", (), "that are no character: write it in UTF-8"),
        (image(), QUESTION, [(0.5,)], r"The point \(0.5,\) is no pair of numbers"),
        (image(), QUESTION, [("a", "b")], r"The point \('a', 'b'\) is no pair of numbers"),
        (image(), QUESTION, [(float("nan"), 0.5)], "is outside the image"),
        (image(), QUESTION, [(0.5, 1.5)], r"The point \(0.5, 1.5\) is outside the image"),
        (torch.rand(1, 20, 30), "What?", (), r"An image tensor is dense RGB \[3, H, W\]"),
        (image().to_sparse(), "What?", (), "torch.sparse_coo on cpu"),
        (image().to("meta"), "What?", (), "on meta"),
        (image() * 255, "What?", (), r"in \[0, 1\]"),
        (42, "What?", (), "42 is no image: give a path, a Pillow image, a numpy array or a tensor"),
        (
            np.zeros((20, 30), np.uint8),
            "What?",
            (),
            r"is RGB \[H, W, 3\] of uint8, and this is uint8 \[20, 30\]",
        ),
        (
            np.zeros((20, 30, 3)),
            "What?",
            (),
            r"this is float64 \[20, 30, 3\].*bring other numbers to 0 to 255",
        ),
        (np.zeros((3, 20, 30), np.uint8), "What?", (), r"this is uint8 \[3, 20, 30\]"),
        (np.zeros((4, 30, 3), np.uint8), "What?", (), "at least 8 pixels on each side"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_a_sentence(model, given, question, points, message):
    with pytest.raises(InputError, match=message):
        model.ask(given, question, points=points)


@pytest.mark.parametrize("given", [(None, QUESTION), QUESTION, 5])
def test_a_question_of_a_batch_has_three_parts(model, given):
    with pytest.raises(InputError, match=r"A question of a batch is .*: give \(image, question, points\)"):
        model.ask_batch([given])


@pytest.mark.parametrize("points", ["tokens", "drawn"])
def test_more_points_than_letters_are_refused(points):
    model = model_of(points=points)
    with pytest.raises(InputError, match="30 points were marked and there are letters for 26; mark fewer"):
        model.ask(image(), QUESTION, points=[(0.5, 0.5)] * 30)


@pytest.mark.parametrize(
    "question",
    [
        "What letters are written on the sign?",
        "What is the main point of this slide?",
        "Which of the marked points is closest?",
    ],
)
def test_any_question_is_answered_with_marks_or_without(model, question):
    assert model.ask(image(), question, settings=PERCEIVE).codes["depth"]
    assert model.ask(image(), question, settings=PERCEIVE).readout == ()


def test_a_read_out_that_is_asked_for_needs_points(model):
    settings = GenerationSettings(readout=True, max_new_tokens=1)
    with pytest.raises(InputError, match="A read-out reads marked points, and none are given"):
        model.ask(image(), QUESTION, settings=settings)
    some = model.ask_batch([(image(), QUESTION, ()), (image(), QUESTION, POINTS)], settings=settings)
    assert [len(answer.readout) for answer in some] == [0, 3]


def test_every_token_that_was_written_is_there_in_order():
    model = model_of(**MASK_CODES)
    answer = model.ask(image(), QUESTION, points=POINTS[:2], settings=PERCEIVE)
    ((mask, *_),) = [answer.codes["segmentation"]]
    written = [f"<segmentation_{code}>" for code in mask]
    written = ["<segmentation_start>", *written, "<segmentation_end>"]
    written += ["<depth_start>", *(f"<depth_{code}>" for code in answer.codes["depth"]), "<depth_end>"]
    assert answer.tokens[:24] == tuple(written)
    letters, cells, codes = answer.tokens[24:30:3], answer.tokens[25:30:3], answer.tokens[26:30:3]
    assert letters == ("A", "B") and cells == ("<loc_5>", "<loc_11>")
    assert codes == tuple(f"<depth_{code}>" for code in answer.readout)
    assert "".join(answer.tokens[30:]).strip() == answer.text and len(answer.tokens) == 30 + 4


def test_a_text_that_is_cut_says_so(model, monkeypatch):
    assert model.ask(image(), QUESTION, settings=PERCEIVE).truncated
    end = torch.zeros(model.plan.size)
    end[model.language.text_tokenizer.end_id] = 1000.0
    logits = model.language.logits
    monkeypatch.setattr(model.language, "logits", lambda hidden: logits(hidden) + end)
    ended = model.ask(image(), QUESTION, settings=attrs.evolve(PERCEIVE, max_new_tokens=1))
    assert ended.text == "" and not ended.truncated


@pytest.mark.parametrize("changes", [{}, MASK_CODES])
def test_without_the_grammar_what_is_no_code_is_minus_one_and_shifts_nothing(changes, monkeypatch):
    """The second reading, and whatever else is no code here, is a word."""
    model = model_of(**changes)
    settings = attrs.evolve(PERCEIVE, grammar=False)
    logits, calls = model.language.logits, []

    def chosen(hidden):
        calls.append(None)
        wish = torch.zeros(model.plan.size)
        is_reading = len(calls) in (len_before + 1, len_before + 3)
        wish[model.plan.readout_block.codebooks[0].start + 2 if is_reading else ord("x")] = 1000.0
        return logits(hidden) + wish

    # One choice per code, one look at each closing marker; then the three readings.
    mask_codes = 4 if changes else 0
    len_before = mask_codes + bool(changes) + 16 + 1
    monkeypatch.setattr(model.language, "logits", chosen)
    answer = model.ask(image(), QUESTION, points=POINTS, settings=settings)
    assert answer.readout == (2, -1, 2)
    assert answer.codes["depth"] == (-1,) * 16 and answer["depth"] is None
    assert answer.tokens.count("x") == mask_codes + 16 + 1 + 4
    assert len(answer["segmentation"]) == 1
    assert not changes or (answer["segmentation"], answer.codes["segmentation"]) == ((None,), ((-1,) * 4,))


def test_asking_leaves_the_mode_alone_and_answers_as_in_eval_mode():
    model = model_of()
    expected = model.ask(image(), QUESTION, points=POINTS, settings=PERCEIVE)
    dropout = torch.nn.Dropout(0.9)
    model.vision_head = torch.nn.Sequential(model.vision_head, dropout)
    model.train()
    model.language.eval()  # A user may hold a part still.
    before = {name: part.training for name, part in model.named_modules()}
    assert dropout.training
    for _ in range(2):
        assert model.ask(image(), QUESTION, points=POINTS, settings=PERCEIVE).tokens == expected.tokens
    assert {name: part.training for name, part in model.named_modules()} == before


def test_threads_may_ask_at_once():
    """None of them sees another's mode, and what is training meanwhile stays in training mode."""
    model = model_of()
    expected = model.ask(image(), QUESTION, points=POINTS, settings=PERCEIVE).tokens
    model.train()
    modes = {name: part.training for name, part in model.named_modules()}

    def ask(_):
        return model.ask(image(), QUESTION, points=POINTS, settings=PERCEIVE).tokens

    seen = []
    with ThreadPoolExecutor(4) as pool:
        for tokens in pool.map(ask, range(12)):
            seen.append(tokens)
            assert {name: part.training for name, part in model.named_modules()} == modes
    assert seen == [expected] * 12


@pytest.mark.parametrize("part", ["language.embedding", "vision", "streams.segmentation"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_weights_that_are_no_numbers_are_said_to_be_none(part, temperature):
    model = model_of()
    with torch.no_grad():
        next(model.get_submodule(part).parameters()).view(-1)[0] = float("nan")
        model.get_submodule(part).bias.fill_(float("inf")) if hasattr(
            model.get_submodule(part), "bias"
        ) else None
    with pytest.raises(
        CheckpointError, match="not finite numbers.*load an earlier checkpoint, or compute in float32"
    ):
        model.ask(image(), QUESTION, points=POINTS, settings=attrs.evolve(PERCEIVE, temperature=temperature))


def test_drawn_points_are_those_of_each_question_and_unmarked_ones_share_an_image(monkeypatch):
    model = model_of(points="drawn")
    seen = []
    encode = model.encode_vision
    monkeypatch.setattr(model, "encode_vision", lambda images: seen.append(len(images)) or encode(images))
    picture = image()
    questions = [
        (picture, "is", ()),
        (picture, "is", POINTS),
        (picture, "is", POINTS[:1]),
        (picture, "image", ()),
    ]
    together = model.ask_batch(questions, settings=PERCEIVE)
    assert seen == [3]
    for answer, (given, question, points) in zip(together, questions, strict=True):
        assert answer.tokens == model.ask(given, question, points=points, settings=PERCEIVE).tokens
