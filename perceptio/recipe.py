"""A recipe: the frozen value that describes one model and one training run, composed of component configs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import attrs

from perceptio.errors import RecipeError, UnknownNameError, near_miss
from perceptio.interfaces import (
    Codes,
    ComponentConfig,
    HeadConfig,
    LanguageBackboneConfig,
    LossConfig,
    ModelSpecs,
    PerceptionTokenizerConfig,
    StreamSpec,
    StreamSpecs,
    TaskConfig,
    VisionEncoderConfig,
)
from perceptio.recipe_checks import problems_of, unlearned_streams
from perceptio.setting_types import FrozenMapping
from perceptio.vocabulary import CodesPerStep, TokenPlan

AnswerFormat = Literal["direct", "readout", "lookup"]
Perceive = Literal["before", "separate_task", "never"]
PointSetting = Literal["tokens", "drawn"]
ReadAt = Literal["special_token", "previous_token"]


# These run when a value is made, before its types are checked: what is no number is `problems_of`'s to refuse.


def _positive(instance: Any, attribute: "attrs.Attribute[Any]", value: Any) -> None:
    if isinstance(value, int | float) and value <= 0:
        raise RecipeError(f"{attribute.name} is {value}: it must be above 0.")


def _not_negative(instance: Any, attribute: "attrs.Attribute[Any]", value: Any) -> None:
    if isinstance(value, int | float) and value < 0:
        raise RecipeError(f"{attribute.name} is {value}: it must not be below 0.")


def _several(instance: Any, attribute: "attrs.Attribute[Any]", value: Any) -> None:
    if isinstance(value, int | float) and value < 2:
        raise RecipeError(f"{attribute.name} is {value}: it must be at least 2.")


def _seed(instance: Any, attribute: "attrs.Attribute[Any]", value: Any) -> None:
    if isinstance(value, int) and not 0 <= value < 2**32:
        raise RecipeError(f"{attribute.name} is {value}: it must be at least 0 and below 2**32.")


def _share(instance: Any, attribute: "attrs.Attribute[Any]", value: Any) -> None:
    if isinstance(value, int | float) and not 0 <= value < 1:
        raise RecipeError(f"{attribute.name} is {value}: it must be at least 0 and below 1.")


def _shares(instance: Any, attribute: "attrs.Attribute[Any]", value: Any) -> None:
    for one in value if isinstance(value, tuple) else ():
        _share(instance, attribute, one)


def _frozen_mapping(value: Any) -> Any:
    return FrozenMapping(value) if isinstance(value, Mapping) else value


@attrs.frozen(kw_only=True)
class WeightedLoss:
    """A loss and its weight in the total."""

    loss: LossConfig
    weight: float = attrs.field(default=1.0, validator=_not_negative)


@attrs.frozen(kw_only=True)
class DataFolder:
    """A folder in the format of `perceptio.data.folder`, drawn from in proportion to its weight.

    A relative path starts at the folder that a command runs in; that of a packed folder may be an address, such as
    `s3://bucket/corpus`.
    """

    path: str
    weight: float = attrs.field(default=1.0, validator=_positive)


def _folders(value: Any) -> Any:
    """A folder may be given by its path alone."""
    if not isinstance(value, tuple | list):
        return value
    return tuple(DataFolder(path=str(one)) if isinstance(one, str | Path) else one for one in value)


@attrs.frozen(kw_only=True)
class DataConfig:
    """What is trained on, and how conversations are put together.

    Attributes:
        folders: Where samples come from; a path alone has the weight 1.
        validation: Data folders on which training is measured as it goes, as `train.validation` says; none of them is
            trained on.
        perceive: `"before"`: what is written once per image precedes the first answer that requires it, or else the
            last that may have it (Perceptio); later turns see it. `"separate_task"`: it is a task of its own, the
            last turn, which no answer sees (the *direct* control). `"never"`: no stream is supervised (the *answers
            only* control).
        streams: `"all"`: every conversation writes all streams that it can; `"random_subset"`: each of those that are
            written once per image with probability one half, so that the model learns to answer with any of them, or
            none (as CoVT's last stage).
        mixture: Weight of each task as the one a conversation is drawn for, by the names that the data give.
        turns: Most turns of one conversation; the others are drawn from the same image's. A sample whose turns are
            `ordered` is taken whole, however many they are.
        max_questions: Use the marked-point questions of only so many images; None: all of them.
        permute_marks: Shuffle the letters of marked points on every visit.
        too_long: What becomes of a conversation that is longer than the language model serves: `"refuse"` stops and
            names its sample, `"skip"` leaves it out; the metric `too_long` is the share of those.
            `perceptio data check --recipe` lists them all.
        text_only_readout: Extra samples per conversation, any number such as 0.25, unless answers are direct: the
            block of codes of an image that is not shown, in context and excluded from the loss, and then the
            marked-point questions about it. With nothing else to read from, a model learns to read from the block,
            and goes on doing so where it sees the image (ours).
        text_only_comparison: Extra samples per conversation, unless answers are direct: one marked-point question,
            the code or level of each point, in context and excluded from the loss, and the answer (ours).
        text_only_referring: Extra samples per conversation, for masks of special tokens: the questions about objects
            of an image that the tokenizer decodes with and the language model does not see. With nothing but words
            in context, special tokens soon attend to them; among vision features, which are many more, a small
            model takes long to find them (ours).
        vision_only: Extra samples per conversation that are images without text. Each costs a pass of the vision
            encoder, and trains it through losses on its own features, such as `cell_codes`.
    """

    folders: tuple[DataFolder, ...] = attrs.field(default=(), converter=_folders)
    validation: tuple[str, ...] = ()
    perceive: Perceive = "before"
    streams: Literal["all", "random_subset"] = "all"
    mixture: Mapping[str, float] = attrs.field(
        factory=lambda: {"relative_depth": 1.0, "referring": 1.0}, converter=_frozen_mapping
    )
    turns: int = attrs.field(default=3, validator=_positive)
    max_questions: int | None = attrs.field(default=None, validator=_positive)
    permute_marks: bool = True
    too_long: Literal["refuse", "skip"] = "refuse"
    text_only_readout: float = attrs.field(default=0.0, validator=_not_negative)
    text_only_comparison: float = attrs.field(default=0.0, validator=_not_negative)
    text_only_referring: float = attrs.field(default=0.0, validator=_not_negative)
    vision_only: float = attrs.field(default=0.0, validator=_not_negative)


@attrs.frozen(kw_only=True)
class ValidationConfig:
    """How training is measured on `data.validation` while it goes on; nothing that is trained depends on it.

    Attributes:
        every: Steps between measurements; the last step is always measured.
        samples: Conversations that are measured, the same ones every time, drawn as those for training are.
        best: The figure by which the model in `best/` is chosen, such as `"loss"` or `"next_token.text_accuracy"`:
            one that training logs, measured on the validation data.
        goal: Whether the lowest or the highest value of it is best. None: the lowest, of a loss; a metric needs it.
    """

    every: int = attrs.field(default=100, validator=_positive)
    samples: int = attrs.field(default=256, validator=_positive)
    best: str = "loss"
    goal: Literal["lowest", "highest"] | None = None


@attrs.frozen(kw_only=True)
class TrainConfig:
    """How a model is trained.

    Attributes:
        steps: Optimizer steps.
        micro_batch_size: Conversations that one forward pass of a process takes, packed into one row.
        grad_accumulation: Such passes per step and process, one after the other.
        lr: Peak learning rate of AdamW.
        lr_scale: What it is multiplied with, by parameter group; of several that a parameter is in, the longest name
            holds, so that `{"language": 0.1, "language.lora": 1.0}` says something else of LoRA than of the rest.
        muon: Peak learning rate of Muon by parameter group, in the same way, for the matrices and convolution kernels
            in it; the rest is AdamW's. It teaches what starts from random values several times faster.
        warmup_steps: Linear warm-up before the schedule.
        schedule: From the peak learning rate, `"cosine"` goes to zero, `"constant"` stays, and `"stable_decay"` stays
            and then goes down to zero in a straight line. A run of the last two can be resumed with more steps, of
            the last as long as it has not begun to go down.
        decay: Share of the steps in which `"stable_decay"` goes down.
        train: Parameter groups that train, such as `"language"` or `"streams.segmentation.tokenizer.mask_decoder"`;
            `*` stands for any characters; the rest is frozen. Tokenizers of codes never train here.
        precision: `"fp32"`; `"bf16"` autocast, which computes the model in bfloat16 and leaves soft decoding, the
            losses, the weights that train, their gradients and the optimizer's state in float32; or `"auto"`: bf16
            where the device computes it natively (a CPU without such instructions takes several times as long in it).
            Weights that train in bfloat16 are refused: it keeps three digits, and a step smaller than that changes
            nothing. Frozen parts may be bfloat16.
        max_grad_norm: Gradients of a larger norm are scaled down to it.
        save_every: Steps between checkpoints; the last is always saved.
        save_pretrained_weights: Whether checkpoints hold what is frozen from pretrained weights, too. Without, they
            are small, and loading reads those weights again from where the recipe names them.
        log_every: Steps between lines of the log; the last is always logged.
        workers: Threads that draw and pack conversations ahead of time; 0: none, training waits for each. What is
            drawn does not depend on it.
        validation: How training is measured on `data.validation`.
    """

    steps: int = attrs.field(default=1000, validator=_positive)
    micro_batch_size: int = attrs.field(default=16, validator=_positive)
    grad_accumulation: int = attrs.field(default=1, validator=_positive)
    lr: float = attrs.field(default=1e-3, validator=_positive)
    lr_scale: Mapping[str, float] = attrs.field(factory=dict, converter=_frozen_mapping)
    muon: Mapping[str, float] = attrs.field(factory=dict, converter=_frozen_mapping)
    warmup_steps: int = attrs.field(default=50, validator=_not_negative)
    schedule: Literal["cosine", "constant", "stable_decay"] = "cosine"
    decay: float = attrs.field(default=0.1, validator=_share)
    weight_decay: float = attrs.field(default=0.05, validator=_not_negative)
    betas: tuple[float, float] = attrs.field(default=(0.9, 0.999), validator=_shares)
    max_grad_norm: float = attrs.field(default=1.0, validator=_positive)
    precision: Literal["fp32", "bf16", "auto"] = "fp32"
    seed: int = attrs.field(default=0, validator=_seed)
    train: tuple[str, ...] = ("vision", "vision_head", "language", "streams.*", "heads")
    save_every: int = attrs.field(default=500, validator=_positive)
    save_pretrained_weights: bool = True
    log_every: int = attrs.field(default=10, validator=_positive)
    workers: int = attrs.field(default=1, validator=_not_negative)
    validation: ValidationConfig = ValidationConfig()


@attrs.frozen(kw_only=True)
class TokenizerTraining:
    """How a stream's tokenizer of codes is trained, by `train-tokenizer` or, before the model, by `train`.

    Attributes:
        untrained: Use the tokenizer with its random values where it names no weights. Otherwise `perceptio train`
            trains it on the recipe's own data before it trains the model.
        steps: Optimizer steps.
        batch_size: Maps per step.
        lr: Peak learning rate of AdamW.
        warmup_steps: Linear warm-up before the cosine to zero.
        edge_weight: Weight of the error of differences between neighboring pixels.
        unquantized: Share of the steps, at the beginning, in which nothing is quantized, so that codes start from
            latents that mean something (ours).
    """

    untrained: bool = False
    steps: int = attrs.field(default=600, validator=_positive)
    batch_size: int = attrs.field(default=16, validator=_positive)
    lr: float = attrs.field(default=2e-3, validator=_positive)
    warmup_steps: int = attrs.field(default=50, validator=_not_negative)
    edge_weight: float = attrs.field(default=0.5, validator=_not_negative)
    unquantized: float = attrs.field(default=0.2, validator=_share)
    seed: int = attrs.field(default=0, validator=_seed)


@attrs.frozen(kw_only=True)
class Stream:
    """One stream of perception: what the model writes of an image, or of an object, before it answers.

    Attributes:
        name: By which losses, tasks, settings and answers speak of it.
        tokenizer: What it is written as, and what that stands for.
        head: Between the hidden states of its special tokens and the rows that its tokenizer reads; none where it is
            written as codes.
        codes_per_step: Codes predicted per step, or `"group"`: each of the tokenizer's groups at once. 1 is the
            paper's, a row of the grid is faster.
        read_at: Which hidden states the head reads: at the special tokens (`"special_token"`, as Sa2VA), or each at
            the token before (`"previous_token"`, as LISA).
        feedback: From the rows that the head makes to the next inputs, which take the place of its special tokens'
            own embeddings (as Mirage); None: they keep their own (as CoVT). It reads at the previous token.
        training: How its tokenizer of codes is trained.
    """

    name: str
    tokenizer: PerceptionTokenizerConfig
    head: HeadConfig | None = None
    codes_per_step: CodesPerStep = 1
    read_at: ReadAt = "special_token"
    feedback: HeadConfig | None = None
    training: TokenizerTraining = TokenizerTraining()

    @property
    def spec(self) -> StreamSpec:
        """How it is written, and what it is learned from."""
        spec: StreamSpec = self.tokenizer.spec.stream
        return spec

    @property
    def parts(self) -> dict[str, ComponentConfig]:
        """The config of every part that is built, by its name in the stream."""
        named = {"tokenizer": self.tokenizer, "head": self.head, "feedback": self.feedback}
        return {name: config for name, config in named.items() if config is not None}


@attrs.frozen(kw_only=True)
class PointValues:
    """Ordinal values of marked points, said before an answer (ours): what a decoded map holds there, in levels.

    A level is a token of its own, no code of a codebook, so that comparing two of them is easy. Of depth the lowest
    is the farthest, the highest the nearest. In the answer format `readout` the model writes the levels, supervised
    with those of the true codes; in `lookup` they are looked up on a map and given to it.

    Attributes:
        levels: How many there are.
        source: Whose map is looked up: `"written"`, that of the block which the model wrote before; or
            `"vision_head"`, that of the codes which the stream's auxiliary head predicts from the vision features,
            with no token written (a control).
        decoding: Whether the map is decoded from the chosen codes, `"hard"`, or from the distributions that they were
            chosen from, `"soft"`; given codes are sure of themselves.
        trained_with: The levels that training puts in context: those of the `"true_codes"`, or of the model's
            `"own_codes"` after the true ones before them, which takes a second forward pass. Text-only samples have
            those of the true codes.
    """

    levels: int = attrs.field(default=64, validator=_several)
    source: Literal["written", "vision_head"] = "written"
    decoding: Literal["hard", "soft"] = "hard"
    trained_with: Literal["true_codes", "own_codes"] = "true_codes"


@attrs.frozen(kw_only=True)
class Recipe:
    """One model and one run.

    Attributes:
        streams: What is perceived before the answer, in order; the paper's is segmentation, then depth.
        heads: Auxiliary heads by the name of a stream of codes: each maps every vision feature to logits over the
            stream's codes.
        answer_format: `"direct"`, as the paper's; or `"readout"`: before a marked-point answer the model writes each
            point's letter, place and code (ours, after the chain of thought of AURORA); or `"lookup"`: the map that
            it wrote is decoded and looked up at each point, and the values are given to it (ours).
        points: How marked points reach the model: as location `"tokens"`, or `"drawn"` on the image, where a
            conversation asks one question with points.
        point_values: How values of marked points are looked up, or read out in place of codes; None: codes are.
        readout: The stream in whose grid marked points are named, and which is read out or looked up; None: the first
            that has a grid.
        tasks: Settings of tasks by the names that the data give; a task that is not named here has its own defaults.
        start_from: A run or a checkpoint whose weights are taken before training, as far as it has the same parts:
            stages of a training are recipes that start from the one before.
    """

    name: str
    vision: VisionEncoderConfig
    vision_head: HeadConfig
    language: LanguageBackboneConfig
    streams: tuple[Stream, ...] = ()
    heads: Mapping[str, HeadConfig] = attrs.field(factory=dict, converter=_frozen_mapping)
    answer_format: AnswerFormat = "direct"
    point_values: PointValues | None = None
    points: PointSetting = "tokens"
    readout: str | None = None
    tasks: Mapping[str, TaskConfig] = attrs.field(factory=dict, converter=_frozen_mapping)
    losses: tuple[WeightedLoss, ...] = ()
    data: DataConfig = DataConfig()
    train: TrainConfig = TrainConfig()
    start_from: str | None = attrs.field(default=None, metadata={"fingerprint": False})

    @property
    def parts(self) -> dict[str, ComponentConfig]:
        """The config of every part that is built, by its name in the model."""
        return {
            "vision": self.vision,
            "vision_head": self.vision_head,
            "language": self.language,
            **{
                f"streams.{stream.name}.{name}": config
                for stream in self.streams
                for name, config in stream.parts.items()
            },
            **{f"heads.{name}": config for name, config in self.heads.items()},
        }

    def stream(self, name: str) -> Stream:
        """A stream by its name.

        Raises:
            UnknownNameError: There is none of this name.
        """
        for stream in self.streams:
            if stream.name == name:
                return stream
        known = [stream.name for stream in self.streams]
        raise UnknownNameError(f"{self.name} has no stream {name!r}{near_miss(name, known)}")

    def with_stream(self, name: str, **changes: Any) -> "Recipe":
        """The recipe with other settings of one stream, as `attrs.evolve` takes them.

        Raises:
            UnknownNameError: There is none of this name.
        """
        own = attrs.evolve(self.stream(name), **changes)
        return attrs.evolve(self, streams=tuple(own if one.name == name else one for one in self.streams))

    @property
    def unlearned(self) -> tuple[str, ...]:
        """The streams that are written, and that no loss reads: nothing of them is learned."""
        return () if self.data.perceive == "never" else tuple(unlearned_streams(self))

    @property
    def looks_up_what_is_written(self) -> bool:
        """Whether marked points are looked up on the map that was written before the answer."""
        values = self.point_values
        return self.answer_format == "lookup" and values is not None and values.source == "written"

    @property
    def plan(self) -> TokenPlan:
        """The token ids that follow from the parts."""
        written = {stream.name: (stream.spec, stream.codes_per_step) for stream in self.streams}
        read_before = [stream.name for stream in self.streams if stream.read_at == "previous_token"]
        levels = 0 if self.point_values is None else self.point_values.levels
        return TokenPlan.of(self.language.spec.vocab_size, written, self.readout, read_before, levels)

    @property
    def specs(self) -> ModelSpecs:
        """What losses and heads may know of the model."""
        plan = self.plan
        return ModelSpecs(
            vision=self.vision.spec,
            language=self.language.spec,
            streams=FrozenMapping(
                {
                    stream.name: StreamSpecs(
                        tokenizer=stream.tokenizer.spec, tokens=plan.streams[stream.name]
                    )
                    for stream in self.streams
                }
            ),
            locations=plan.locations,
            vocab_size=plan.size,
            heads=tuple(self.heads),
            levels_of=None if plan.levels is None else plan.readout,
        )

    def head_width(self, name: str) -> int:
        """How many logits the auxiliary head of a stream gives for each feature: the codes of its last group."""
        written = self.stream(name).spec.written
        assert isinstance(written, Codes)
        return written.codebook_sizes[written.groups[-1].codebook]

    def check(self) -> None:
        """Refuse values of another type and parts that do not fit, from values and specs alone.

        Raises:
            RecipeError: Everything that is wrong, a sentence each.
        """
        found = list(problems_of(self))
        if found:
            raise RecipeError(*found)
