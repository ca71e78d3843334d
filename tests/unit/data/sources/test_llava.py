"""LLaVA's list as published, and everything in it that is odd."""

import json

import attrs
import pytest
from fakes import tiny_recipe

from perceptio.data.collate import Collate
from perceptio.data.sources.llava import RENAMED, LLaVASource
from perceptio.errors import DataError
from perceptio.interfaces import LeftOut, Sample, SourceSample, Turn
from perceptio.model.perception_model import build_model


def said(*values, first="human"):
    speakers = ("human", "gpt") if first == "human" else ("gpt", "human")
    return [{"from": speakers[place % 2], "value": value} for place, value in enumerate(values)]


def item(id, *values, image="coco/a.jpg", **others):
    return {"id": id, **({"image": image} if image else {}), "conversations": said(*values), **others}


@pytest.fixture
def imported(tmp_path):
    (tmp_path / "coco").mkdir()
    (tmp_path / "coco" / "a.jpg").touch()

    def read(*items, **settings):
        (tmp_path / "list.json").write_text(json.dumps(items))
        given = list(LLaVASource(folder=str(tmp_path), conversations="list.json", **settings).samples())
        left_out = [(one.what, one.why) for one in given if isinstance(one, LeftOut)]
        return [one for one in given if isinstance(one, SourceSample)], left_out

    return read


def spoken(sample):
    return [(turn.question, turn.answer) for turn in sample.turns]


def test_conversations_keep_their_order_and_lose_the_place_of_the_picture(imported):
    samples, left_out = imported(
        item("1", "<image>\nWhat is it?", "A bus.", "Which color?", "Red."),
        item("2", "What is it?\n<image>", "A cat."),
        item("t", "Say < image >.", "<Image>", image=None, model=""),
        item("3", "No token.", "Still seen.", image=["coco/a.jpg"]),
        item(7, "<image>A number is an id.", "Yes."),
    )
    assert left_out == []
    assert [(one.id, one.image, one.ordered) for one in samples] == [
        ("1", "images:coco/a.jpg", True),
        ("2", "images:coco/a.jpg", True),
        ("t", None, True),
        ("3", "images:coco/a.jpg", True),
        ("7", "images:coco/a.jpg", True),
    ]
    assert spoken(samples[0]) == [("What is it?", "A bus."), ("Which color?", "Red.")]
    assert spoken(samples[1]) == [("What is it?", "A cat.")]
    assert spoken(samples[2]) == [("Say < image >.", "<Image>")]
    assert {turn.task for one in samples for turn in one.turns} == {"conversation"}


def test_ids_that_repeat_are_made_distinct_and_counted(imported):
    ids = ["x", "x", "x-2", "x", None]
    samples, _ = imported(*(item(id, "Q", "A") for id in ids), task="chat")
    assert [one.id for one in samples] == ["x", "x-2", "x-2-2", "x-3", "item-5"]
    assert [one.notes for one in samples] == [(), (RENAMED,), (RENAMED,), (RENAMED,), (RENAMED,)]
    assert samples[0].turns[0].task == "chat"


LATER = "all from turn 3"


@pytest.mark.parametrize(
    ("conversations", "kept", "what", "why"),
    [
        (said("Hm.", "Q", "A", first="gpt"), [("Q", "A")], "the beginning", "an answer stands before any question"),
        (said("Q", "A", "Q2"), [("Q", "A")], LATER, "a question has no answer"),
        (said("Q", "A", "Q2", " \n"), [("Q", "A")], LATER, "an answer has no words"),
        (said("Q", "A", "", "A2"), [("Q", "A")], LATER, "a question has no words"),
        (said("<image>", "A caption."), [], "all", "a question has no words"),
        (said("Q")[:1] * 2 + said("Q", "A"), [], "all", "two questions follow each other"),
        (said("Q", "A") + said("B", first="gpt") * 2, [("Q", "A")], LATER, "two answers follow each other"),
        ([*said("Q", "A"), {"from": "system", "value": "x"}, *said("A", first="gpt")], [("Q", "A")], LATER,
         "a speaker is neither human nor gpt, or they do not alternate"),
        (said("<image> <image> Compare.", "Same."), [], "all", "it has several <image>"),
        (said("Q", "A", "And <image>?", "B"), [("Q", "A")], LATER, "<image> stands after the first question"),
        (said("<image>Q", "A", "Q2", "An <image>."), [("Q", "A")], LATER, "<image> stands in an answer"),
        (said("<image>Q", "<image>"), [], "all", "<image> stands in an answer"),
        (said("Q", "\ud83d"), [], "all", "an answer has half a surrogate pair, which is no character"),
        ([], [], "all", "it has no turn"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_left_out_and_said(imported, conversations, kept, what, why):
    samples, left_out = imported({"id": "o", "image": "coco/a.jpg", "conversations": conversations})
    assert [spoken(one) for one in samples] == ([kept] if kept else [])
    assert left_out == [(f"{what} of o", why)]


def test_without_a_picture_there_is_no_place_for_one(imported):
    samples, left_out = imported(
        item("first", "<image>\nWhat is it?", "A bus.", "Which color?", "Red.", image=None),
        item("later", "Hello.", "Hello.", "What is it? <image>", "A bus.", image=None),
        item("answer", "Draw it.", "<image>", image=None),
    )
    assert [(one.id, spoken(one)) for one in samples] == [("later", [("Hello.", "Hello.")])]
    assert left_out == [
        ("all of first", "<image> stands in a question about no picture"),
        ("all from turn 3 of later", "<image> stands in a question about no picture"),
        ("all of answer", "<image> stands in an answer"),
    ]


def test_special_strings_in_published_text_are_words(imported):
    recipe = tiny_recipe()
    text = build_model(recipe).language.text_tokenizer
    collate = Collate.of(recipe, text)
    added = [name.replace("*", "0") for name, _ in recipe.plan.names]
    template = [attrs.asdict(text.template)[name] for name in ("user", "assistant", "end")]
    spelled = " ".join([*added, *template, "[SEG]", "</s>", "<|im_end|>"])
    assert "[SEG]" in added and "<depth_start>" in added

    def written(question, answer):
        (one,), left_out = imported(item("s", question, answer, image=None))
        assert left_out == [] and spoken(one) == [(question, answer)]
        (turn,) = one.turns
        return collate(
            [Sample(turns=(Turn(task=turn.task, question=question, answer=answer),))]
        ).ids_T.tolist()

    controls = {id for part in template for id in text.encode_template(part)} - set(text.encode(spelled))
    plain, odd = written("What is it?", "It is."), written(f"What is {spelled}?", f"It is {spelled}.")
    assert max(odd) < recipe.plan.base_vocab
    assert controls and [id for id in odd if id in controls] == [id for id in plain if id in controls]
    assert text.decode(odd).count(spelled) == 2


def test_several_pictures_and_videos_are_left_out(imported):
    samples, left_out = imported(
        item("p", "Q", "A", image=["coco/a.jpg", "coco/b.jpg"]),
        item("v", "Q", "A", image=None, video="v.mp4"),
    )
    assert samples == []
    assert left_out == [("p", "it has several pictures in a list"), ("v", "it has a video")]


def test_folders_that_are_links_become_roots_of_their_own(imported, tmp_path):
    (tmp_path / "coco").rename(tmp_path / "elsewhere")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/coco").symlink_to(tmp_path / "elsewhere")
    samples, _ = imported(item("1", "Q", "A"), images="pictures")
    assert samples[0].image == "images-coco:a.jpg"
    info = LLaVASource(folder=str(tmp_path), images="pictures").info()
    assert info.roots == {"images": str(tmp_path / "pictures"), "images-coco": str(tmp_path / "elsewhere")}


def test_missing_pictures_are_counted_and_refused_or_left_out(imported):
    items = [
        item("1", "Q", "A"),
        item("2", "Q", "A", image="coco/b.jpg"),
        item("3", "Q", "A", image="gqa/c.jpg"),
    ]
    with pytest.raises(
        DataError,
        match=r"2 pictures missing, first .*coco/b\.jpg \(.*list\.json item 2, '2'\): .*leave_out",
    ):
        imported(*items)
    samples, left_out = imported(*items, missing="leave_out")
    assert [one.id for one in samples] == ["1"]
    assert left_out == [("2", "its picture is missing"), ("3", "its picture is missing")]


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (
            item("1", "Q", "A", image="../a.jpg"),
            r"item 1 has the picture '../a.jpg', which must be a path inside the",
        ),
        (
            item("1", "Q", "A", image="/etc/a.jpg"),
            "has the picture '/etc/a.jpg', which must be a path inside the",
        ),
        ({"id": "1", "image": "", "conversations": []}, "has the picture '', which is not a path"),
        ({"id": "1", "image": 3, "conversations": []}, "has the picture 3, which is not a path"),
        (
            {"id": "1", "conversations": "Q"},
            r"item 1 is .*, and not an object with \"conversations\", a list",
        ),
        ("Q", r"item 1 is 'Q', and not an object with \"conversations\", a list"),
    ],
)
def test_what_is_broken_is_refused_with_its_item(imported, broken, why):
    with pytest.raises(DataError, match=why):
        imported(broken)


def test_a_list_that_is_cut_short_and_a_missing_folder_are_said(tmp_path):
    (tmp_path / "llava_v1_5_mix665k.json").write_text(json.dumps([item("1", "Q", "A", image=None)])[:-8])
    source = LLaVASource(folder=str(tmp_path))
    with pytest.raises(DataError, match=r"llava_v1_5_mix665k\.json is broken or cut short in its item 1 "):
        list(source.samples())
    with pytest.raises(
        DataError, match="There is no folder of pictures .*: give it with --set images=FOLDER"
    ):
        LLaVASource(folder=str(tmp_path), images="none").info()
