"""Everything that is wrong with a recipe is said when it is loaded, from its values, at once."""

from typing import ClassVar

import attrs
import pytest
from fakes import EVERY_CELL, FakeMaskCodesConfig, FakeMultiMapConfig
from small import small_recipe

from perceptio.backbones.vision.conv import ConvVisionConfig
from perceptio.errors import RecipeError
from perceptio.heads.linear import LinearHeadConfig
from perceptio.interfaces import (
    Continuous,
    DepthSpec,
    Kind,
    Loss,
    LossConfig,
    PerceptionSpec,
    PerceptionTokenizerConfig,
    StreamSpec,
)
from perceptio.losses.masks import DiceConfig
from perceptio.losses.next_token import NextToken, NextTokenConfig
from perceptio.recipe import DataConfig, DataFolder, Stream, TrainConfig, WeightedLoss
from perceptio.serialize import from_json, to_json
from perceptio.settings import load_recipe
from perceptio.tasks.maps import MapTaskConfig
from perceptio.tasks.plain import PlainTask, PlainTaskConfig
from perceptio.tokenizers.depth.fsq import FSQDepthConfig
from perceptio.tokenizers.segmentation.pixel_features import PixelFeaturesConfig

FITTING = small_recipe()


def problems(recipe=FITTING, **changes):
    with pytest.raises(RecipeError) as refused:
        attrs.evolve(recipe, **changes).check()
    return refused.value.problems


def tokenizer(name):
    return FITTING.stream(name).tokenizer


def test_recipes_that_come_with_the_library_have_nothing_wrong():
    for name in ("perceptio_tiny", "perceptio_8b", "perceptio_8b:tiny", "ablations/answers_only"):
        load_recipe(name)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"streams": "depth"}, "streams is 'depth'; it must be tuple["),
        (
            {"streams": (Stream(name="depth", tokenizer=LinearHeadConfig()),)},
            "streams.0.tokenizer is LinearHeadConfig(); it must be a PerceptionTokenizerConfig.",
        ),
        ({"readout": 3}, "readout is 3; it must be str or None."),
        ({"losses": (NextTokenConfig(),)}, "losses.0 is NextTokenConfig(); it must be a WeightedLoss."),
        (
            {"losses": (WeightedLoss(loss=DiceConfig),)},
            "losses.0.loss is the class DiceConfig; give one of its values",
        ),
        (
            {"losses": (WeightedLoss(loss=DiceConfig(stream="segmentation"), weight="2"),)},
            "losses.0.weight is '2'; it must be a finite number.",
        ),
        ({"vision": LinearHeadConfig()}, "vision is LinearHeadConfig(); it must be a VisionEncoderConfig."),
        ({"vision": ConvVisionConfig}, "vision is the class ConvVisionConfig; give one of its values"),
        ({"heads": {3: LinearHeadConfig()}}, "heads has the key 3; keys must be strings."),
        ({"data": DataConfig(folders="data/x")}, "data.folders is 'data/x'; it must be tuple["),
        ({"data": DataConfig(mixture=None)}, "data.mixture is None; it must be Mapping["),
        ({"train": TrainConfig(lr=float("nan"))}, "train.lr is nan; it must be a finite number."),
        ({"train": TrainConfig(lr=float("inf"))}, "train.lr is inf; it must be a finite number."),
        ({"train": TrainConfig(steps=2.0)}, "train.steps is 2.0; it must be int."),
        (
            {"train": TrainConfig(precision="fp16")},
            "train.precision is 'fp16'; it must be 'fp32' or 'bf16' or 'auto'.",
        ),
        ({"name": None}, "name is None; it must be str."),
    ],
)
def test_a_value_of_another_type_is_named_by_its_path(changes, said):
    (problem,) = problems(**changes)
    assert problem.startswith(said)


def test_a_whole_number_is_a_float_and_a_path_is_a_folder():
    recipe = attrs.evolve(FITTING, data=DataConfig(folders=("data/x",)), train=TrainConfig(lr=1))
    recipe.check()
    assert recipe.data.folders == (DataFolder(path="data/x"),)


def test_all_that_removing_a_stream_takes_is_said_at_once():
    said = problems(streams=(FITTING.stream("segmentation"),))
    assert [problem.partition(";")[0] for problem in said] == [
        "the readout format speaks the codes of a grid, and no stream has one",
        "heads names the stream 'depth', which is not among streams. There is: segmentation.",
    ]
    said = problems(streams=(FITTING.stream("segmentation"),), answer_format="direct", heads={})
    assert [problem.partition(",")[0] for problem in said] == [
        f"the loss {name} is about the stream 'depth'"
        for name in ("marker", "token", "count", "soft_reconstruction", "cell_codes")
    ]


def test_what_is_wrong_with_values_does_not_hide_what_does_not_fit():
    with pytest.raises(RecipeError) as refused:
        attrs.evolve(
            FITTING.with_stream("segmentation", head=None), train=TrainConfig(betas=[0.9, 0.9])
        ).check()
    assert str(refused.value).startswith(
        "2 things are wrong:\n  1. streams.segmentation: pixel_features reads hidden states; give the stream a head."
        "\n  2. train.betas is [0.9, 0.9]; it must be tuple[float, float]."
    )


def test_losses_of_masks_beside_mask_codes_are_refused_and_so_is_the_head():
    codes = FITTING.with_stream("segmentation", tokenizer=FakeMaskCodesConfig())
    (problem,) = problems(codes)
    assert problem.startswith("streams.segmentation.head has nothing to read, because fake_mask_codes (fakes")
    assert problem.endswith("is written as codes; set it to None.")
    said = problems(codes.with_stream("segmentation", head=None))
    assert [problem.partition(",")[0] for problem in said] == [
        "the loss mask_bce compares mask logits",
        "the loss dice compares mask logits",
    ]


def test_streams_have_names_and_tokens_of_their_own():
    again = Stream(name="depth", tokenizer=tokenizer("depth"))
    (problem,) = problems(streams=(*FITTING.streams, again))
    assert problem == "streams has 2 of the name 'depth'; give each a name of its own."
    (problem,) = problems(streams=(*FITTING.streams, attrs.evolve(again, name="a.b")))
    assert problem == "streams has the name 'a.b'; use letters, digits and _ only."
    masks = FITTING.stream("segmentation")
    other = attrs.evolve(masks, name="parts", tokenizer=FakeMultiMapConfig())
    (problem,) = problems(streams=(*FITTING.streams, other))
    assert problem == (
        "the streams 'segmentation' and 'parts' both have the special token '[SEG]'; give those of one of them other "
        "names."
    )


def vectors(stream="vectors", **changes):
    """A stream of special tokens beside those that fit, with a spec of its own."""
    written = Continuous(tokens=changes.pop("tokens", ("<a>", "<b>")), width=3)
    spec = StreamSpec(**{"written": written, "target": "image", **changes})

    @attrs.frozen(kw_only=True)
    class VectorsConfig(PerceptionTokenizerConfig):
        name: ClassVar[str] = "vectors"
        kind: ClassVar[Kind] = Kind.PERCEPTION
        interface: ClassVar[tuple[int, int]] = (2, 0)

        @property
        def spec(self):
            return PerceptionSpec(stream=spec)

        def build(self):
            raise NotImplementedError

    return Stream(name=stream, tokenizer=VectorsConfig(), head=LinearHeadConfig())


def test_tokens_of_one_name_are_said_once_for_two_streams():
    (problem,) = problems(streams=(*FITTING.streams, vectors(), vectors("others")))
    assert problem.startswith(
        "the streams 'vectors' and 'others' both have the special tokens '<a>', '<b>'; give"
    )


@pytest.mark.parametrize("token", ["<depth_start>", "<depth_3>", "<loc_0>"])
def test_a_special_token_is_not_called_as_a_code_or_a_place(token):
    (problem,) = problems(streams=(*FITTING.streams, vectors(tokens=(token,))))
    assert problem.startswith(f"the stream 'vectors' has the special token {token!r}, and codes and places")
    attrs.evolve(FITTING, streams=(*FITTING.streams, vectors(tokens=("<depth>", "<loc_x>")))).check()


@pytest.mark.parametrize(("per", "target"), [("object", "image"), ("object", "normals"), ("image", "masks")])
def test_streams_of_objects_are_learned_from_masks_and_no_others_are(per, target):
    (problem,) = problems(streams=(*FITTING.streams, vectors(per=per, target=target)))
    assert f"PerceptionSpec is written per {per} and learned from {target!r}; objects are" in problem


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        (
            "depth",
            {"codes_per_step": 5},
            "streams.depth.codes_per_step: 5 codes per step do not divide groups of 16",
        ),
        (
            "segmentation",
            {"codes_per_step": 4},
            "streams.segmentation.codes_per_step has no codes to count: ",
        ),
        (
            "segmentation",
            {"feedback": LinearHeadConfig(), "read_at": "special_token"},
            "streams.segmentation is fed back, so that a token holds what was read before it; set streams.segmentat",
        ),
        (
            "segmentation",
            {"feedback": LinearHeadConfig(), "read_at": "previous_token"},
            "streams.segmentation is written once per object and cannot be fed back; leave feedback out.",
        ),
    ],
)
def test_a_stream_s_settings_fit_how_it_is_written(name, changes, said):
    problem = problems(FITTING.with_stream(name, **changes))[0]
    assert problem.startswith(said)


def test_points_are_read_out_of_a_stream_with_a_grid():
    (problem,) = problems(readout="dept")
    assert problem.startswith(
        "readout names the stream 'dept', which is not among streams; did you mean 'depth'?"
    )
    (problem,) = problems(readout="segmentation")
    assert problem.startswith(
        "readout names the stream 'segmentation', whose codes are not those of one grid"
    )


def test_a_head_that_nothing_reads_and_one_that_is_not_there_are_refused():
    without = tuple(weighted for weighted in FITTING.losses if weighted.loss.name != "cell_codes")
    (problem,) = problems(losses=without)
    assert problem == "no loss reads the head 'depth', so that it would not learn; leave it out of heads."
    (problem,) = problems(heads={})
    assert problem.startswith(
        "the loss cell_codes reads the head of the stream 'depth', and there is none; add heads="
    )
    said = problems(heads={**FITTING.heads, "dept": LinearHeadConfig(), "segmentation": LinearHeadConfig()})
    assert said[0].startswith(
        "heads names the stream 'dept', which is not among streams; did you mean 'depth'?"
    )
    assert said[1].startswith(
        "the head 'segmentation' predicts codes, and its stream is written as special tokens"
    )


def test_a_loss_is_given_once_for_a_stream_and_names_one_that_there_is():
    twice = WeightedLoss(loss=DiceConfig(stream="segmentation", sampling=EVERY_CELL))
    (problem,) = problems(losses=(*FITTING.losses, twice))
    assert problem == "the loss dice is given twice as segmentation_dice; once is enough."
    (problem,) = problems(losses=(*FITTING.losses, WeightedLoss(loss=DiceConfig(stream="segmentatio"))))
    assert problem.startswith(
        "the loss dice is about the stream 'segmentatio', which the recipe has not; did you mean"
    )


def test_parameter_groups_are_known_by_their_parts():
    train = TrainConfig(
        train=("langauge", "vision*"),
        muon={"streams.depth.tokenizer": 0.1},
        lr_scale={"heads.depth": 0.1},
    )
    said = problems(train=train, heads={}, losses=FITTING.losses[:-1])
    assert [problem[:85] for problem in said] == [
        "train.train names the parameter group 'langauge', which no part has; did you mean 'la",
        "train.muon names the parameter group 'streams.depth.tokenizer'; a tokenizer of codes ",
        "train.lr_scale names the parameter group 'heads.depth', and the recipe has no heads; ",
    ]


def test_a_base_that_is_left_out_of_checkpoints_must_come_from_somewhere():
    (problem,) = problems(train=TrainConfig(save_pretrained_weights=False))
    assert problem.startswith("train.save_pretrained_weights is False, and no part names pretrained weights")


def test_a_mixture_needs_weights_that_can_be_drawn_by():
    assert problems(data=DataConfig(mixture={"a": -1.0})) == ("data.mixture has weights below 0, of a.",)
    assert problems(data=DataConfig(mixture={"a": 0.0})) == ("data.mixture has no task of a weight above 0.",)


def test_a_task_of_the_recipe_s_can_be_built_and_requires_streams_that_there_are():
    attrs.evolve(FITTING, tasks={"depth_map": MapTaskConfig(stream="depth", question="How deep?")}).check()
    assert problems(
        tasks={"deep": MapTaskConfig(stream="depht"), "far": MapTaskConfig(stream="segmentation")}
    ) == (
        "tasks.deep requires the stream 'depht', which is not among those that are written once per image; did you "
        "mean 'depth'? There is: depth.",
        "tasks.far requires the stream 'segmentation', which is not among those that are written once per image. "
        "There is: depth.",
    )

    class Broken(MapTaskConfig):
        def build(self, model):
            raise ZeroDivisionError("twice")

    class Other(MapTaskConfig):
        def build(self, model):
            return 3

    (said,) = problems(tasks={"a": Broken(stream="depth")})
    assert (
        said.startswith("tasks.a: the task map (") and "cannot be built: ZeroDivisionError('twice')." in said
    )
    assert problems(tasks={"a": Other(stream="depth")})[0].endswith("builds a int, which is no Task.")
    assert problems(tasks={"a": 3}) == ("tasks.a is 3; it must be a TaskConfig.",)


def test_a_lattice_of_more_axes_than_the_latent_has_is_refused():
    with pytest.raises(RecipeError, match=r"fsq: 3 levels need a latent_dim of at least 3, and it is 2"):
        FSQDepthConfig(levels=(8, 4, 4), latent_dim=2)


@attrs.frozen(kw_only=True)
class LyingDepth(FSQDepthConfig):
    """What it says of itself depends on a setting."""

    says: str = "true"

    @property
    def spec(self) -> DepthSpec:
        if self.says == "nothing":
            raise FileNotFoundError("codebook.pt")
        right = super().spec
        return attrs.evolve(right, **{"float": {"codebook_size": 32.5}, "zero": {"grid": (0, 4)}}[self.says])


@pytest.mark.parametrize(
    ("says", "said"),
    [
        (
            "nothing",
            r"streams.depth.tokenizer: the spec of fsq \(.*LyingDepth\) cannot be computed: FileNotFoundError",
        ),
        (
            "float",
            r"depth.tokenizer: what fsq \(.*\) says of itself, DepthSpec.codebook_size is 32.5; it must be",
        ),
        (
            "zero",
            r"tokenizer: what fsq \(.*\) says of itself, DepthSpec.grid, is \(0, 4\); numbers must be at least 1",
        ),
    ],
)
def test_a_spec_that_cannot_be_is_said_with_its_part(says, said):
    with pytest.raises(RecipeError, match=said):
        FITTING.with_stream("depth", tokenizer=LyingDepth(says=says)).check()


class ReadingTooMuch(NextToken):
    required_outputs = ("text_logits_VR",)


@attrs.frozen(kw_only=True)
class OddLossConfig(LossConfig):
    """A loss of a plugin that is not well."""

    name: ClassVar[str] = "dice"
    kind: ClassVar[Kind] = Kind.LOSS
    interface: ClassVar[tuple[int, int]] = (2, 0)

    what: str = "fails"

    def build(self, model) -> Loss:
        if self.what == "fails":
            return {}["points"]
        if self.what == "silent":
            silent = ReadingTooMuch()
            silent.required_outputs = None
            return silent
        return ReadingTooMuch() if self.what == "reads" else 3


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (
            "fails",
            "the loss dice (tests.unit.test_recipe_checks.OddLossConfig) cannot be built: KeyError('points').",
        ),
        (
            "reads",
            "the loss dice (tests.unit.test_recipe_checks.OddLossConfig) reads 'text_logits_VR', which no model",
        ),
        (
            "silent",
            "the loss dice (tests.unit.test_recipe_checks.OddLossConfig) states None as its required_outputs",
        ),
        (
            "number",
            "the loss dice (tests.unit.test_recipe_checks.OddLossConfig) builds a int, which is no Loss.",
        ),
    ],
)
def test_a_loss_is_built_before_anything_else_is(what, said):
    (problem,) = problems(losses=(*FITTING.losses, WeightedLoss(loss=OddLossConfig(what=what))))
    assert problem.startswith(said)


def test_a_document_is_checked_like_a_value():
    document = to_json(FITTING)
    masks, depth = document["streams"]
    masks["head"], depth["codes_per_step"] = None, 3
    with pytest.raises(RecipeError) as refused:
        from_json(document)
    assert len(refused.value.problems) == 2
    document |= {"streams": "depth", "trian": {}, "losses": [{"loss": "next_token", "weight": "2"}]}
    with pytest.raises(RecipeError) as refused:
        from_json(document)
    assert len(refused.value.problems) == 3


@pytest.mark.parametrize("names", [(), ("",)])
def test_a_mask_has_special_tokens_with_names(monkeypatch, names):
    spec = attrs.evolve(tokenizer("segmentation").spec, special_tokens=names)
    monkeypatch.setattr(PixelFeaturesConfig, "spec", spec)
    with pytest.raises(
        RecipeError, match=r"SegmentationSpec has the special tokens \(.*at least one, each with a name"
    ):
        FITTING.check()


def test_a_codebook_of_one_code_says_nothing(monkeypatch):
    spec = attrs.evolve(tokenizer("depth").spec, codebook_size=1)
    monkeypatch.setattr(type(tokenizer("depth")), "spec", spec)
    with pytest.raises(RecipeError, match="DepthSpec has codebooks of 1 codes; at least 2 can say something"):
        FITTING.check()


def test_how_many_features_a_picture_has_is_known_before_anything_is_built(monkeypatch):
    recipe = small_recipe()
    for count, said in ((0, "has 0 features; it must be at least 1"), (16.0, "has 16.0 features")):
        monkeypatch.setattr(
            type(recipe.vision), "num_features", lambda self, height, width, count=count: count
        )
        with pytest.raises(RecipeError, match=f"vision: conv says that a picture of .* {said}"):
            recipe.check()
    monkeypatch.setattr(type(recipe.vision), "num_features", lambda self, height, width: 1 / 0)
    with pytest.raises(RecipeError, match="the num_features of conv cannot be computed: ZeroDivisionError"):
        recipe.check()


def test_no_part_sees_more_pixels_than_a_picture_has():
    recipe = FITTING.with_stream("segmentation", tokenizer=PixelFeaturesConfig(image_size=(2**31, 16)))
    with pytest.raises(RecipeError, match="no picture has more than 50,000,000 pixels"):
        recipe.check()


def test_what_a_task_requires_is_a_tuple_of_names():
    class Careless(PlainTask):
        required = "depth"

    @attrs.frozen(kw_only=True)
    class CarelessConfig(PlainTaskConfig):
        def build(self, model):
            return Careless("answers", False)

    (problem,) = problems(tasks={"chat": CarelessConfig()})
    assert problem == "tasks.chat requires 'depth'; it must be a tuple of names of streams."


def test_streams_that_no_loss_reads_are_known():
    assert FITTING.unlearned == ()
    recipe = attrs.evolve(FITTING, streams=(*FITTING.streams, vectors()))
    assert recipe.unlearned == ("vectors",)
    assert attrs.evolve(recipe, data=DataConfig(perceive="never")).unlearned == ()
