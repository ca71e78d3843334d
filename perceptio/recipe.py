"""Recipes: the frozen values that describe a model and a training run, composed of component configs."""

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


# Validators run when a value is created, before its types are checked. `problems_of` reports values of a wrong type.


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
    """A folder in the format of `perceptio.data.folder`, sampled in proportion to its weight.

    A relative path starts at the working directory. The path of a packed folder may also be an address, such as
    `s3://bucket/corpus`.
    """

    path: str
    weight: float = attrs.field(default=1.0, validator=_positive)


def _folders(value: Any) -> Any:
    """Convert plain paths to data folders of weight 1."""
    if not isinstance(value, tuple | list):
        return value
    return tuple(DataFolder(path=str(one)) if isinstance(one, str | Path) else one for one in value)


@attrs.frozen(kw_only=True)
class DataConfig:
    """The training data, and how conversations are composed from them.

    Attributes:
        folders: The data folders to train on. A plain path has weight 1.
        validation: The data folders on which the model is measured during training, as set in `train.validation`.
            They are not trained on.
        perceive: When streams that are written once per image are written. `"before"`: before the first answer that
            requires them, or else before the last answer that may have them (Perceptio); later turns see them.
            `"separate_task"`: in a last turn of its own, which no answer sees (the *direct* control). `"never"`: no
            stream is supervised (the *answers only* control).
        streams: `"all"`: every conversation writes all streams that it can. `"random_subset"`: each stream that is
            written once per image is written with probability one half, so that the model learns to answer with any
            of them or none (as in CoVT's last stage).
        mixture: The weight of each task, by its name in the data. A task is drawn for each conversation.
        turns: The maximum number of turns of a conversation; further turns are drawn from those of the same image. A
            sample whose turns are `ordered` is used whole, whatever its length.
        max_questions: Use the marked-point questions of at most this many images. None: of all images.
        permute_marks: Whether the letters of marked points are shuffled each time a question is used.
        too_long: What to do with a conversation that is longer than the language model supports. `"refuse"` stops and
            names its sample; `"skip"` leaves it out, and the metric `too_long` reports the share of skipped ones.
            `perceptio data check --recipe` lists them all.
        text_only_readout: The number of extra samples per conversation, such as 0.25, unless answers are direct. Such
            a sample does not show its image. It has the image's block of codes in context, excluded from the loss,
            and then the marked-point questions about it. Without the image, the model must learn to read from the
            block, and it continues to do so when it sees the image (ours).
        text_only_comparison: The number of extra samples per conversation, unless answers are direct. Such a sample
            has one marked-point question, the code or level of each point in context, excluded from the loss, and
            the answer (ours).
        text_only_referring: The number of extra samples per conversation, for masks written as special tokens. Such a
            sample has the questions about objects of an image that only the tokenizer sees, not the language model.
            With only words in context, special tokens soon learn to attend to them. Among vision features, which are
            far more numerous, a small model takes long to find the words (ours).
        vision_only: The number of extra samples per conversation that are images without text. Each costs a pass of
            the vision encoder and trains it through losses on its own features, such as `cell_codes`.
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
    """How the model is measured on `data.validation` during training. Training itself does not depend on it.

    Attributes:
        every: The number of steps between measurements. The last step is always measured.
        samples: The number of conversations to measure, the same ones every time, drawn like those for training.
        best: The metric by which the model in `best/` is chosen, such as `"loss"` or `"next_token.text_accuracy"`.
            It can be any metric that training logs, and is measured on the validation data.
        goal: Whether the lowest or the highest value is best. None means the lowest and is only allowed for a loss.
    """

    every: int = attrs.field(default=100, validator=_positive)
    samples: int = attrs.field(default=256, validator=_positive)
    best: str = "loss"
    goal: Literal["lowest", "highest"] | None = None


@attrs.frozen(kw_only=True)
class TrainConfig:
    """How a model is trained.

    Attributes:
        steps: The number of optimizer steps.
        micro_batch_size: The number of conversations in one forward pass of a process, packed into one row.
        grad_accumulation: The number of such passes per step and process.
        lr: The peak learning rate of AdamW.
        lr_scale: Factors for the learning rate, by parameter group. If a parameter belongs to several groups, the
            longest name wins: `{"language": 0.1, "language.lora": 1.0}` sets another rate for LoRA than for the rest.
        muon: The peak learning rates of Muon, by parameter group, with the same rule. Muon updates the matrices and
            convolution kernels of these groups; AdamW updates all other parameters. Parts that start from random
            values learn several times faster with Muon.
        warmup_steps: The number of steps of linear warm-up before the schedule.
        schedule: How the learning rate continues after the peak. `"cosine"` decays to zero, `"constant"` stays, and
            `"stable_decay"` stays and then decays linearly to zero. A run with `"constant"` can be resumed with more
            steps, and one with `"stable_decay"` as long as it has not begun to decay.
        decay: The share of the steps in which `"stable_decay"` decays.
        weight_decay: The weight decay of AdamW and Muon.
        betas: The two betas of AdamW.
        max_grad_norm: Gradients of a larger norm are scaled down to this norm.
        precision: `"fp32"`, `"bf16"` or `"auto"`. `"bf16"` uses autocast: the model computes in bfloat16, while soft
            decoding, the losses, the trained weights, their gradients and the optimizer state stay in float32.
            `"auto"` selects bf16 if the device computes it natively; a CPU without such instructions is several
            times slower in it. Trained weights in bfloat16 are refused: bfloat16 keeps three digits, so smaller
            updates are lost. Frozen parts may be bfloat16.
        seed: The random seed of initialization and of everything that training draws.
        train: The parameter groups to train, such as `"language"` or
            `"streams.segmentation.tokenizer.mask_decoder"`. `*` matches any characters. All others are frozen.
            Tokenizers of codes never train here.
        save_every: The number of steps between checkpoints. The last step is always saved.
        save_pretrained_weights: Whether checkpoints also hold frozen pretrained weights. If not, checkpoints are
            small, and loading reads those weights again from the place that the recipe names.
        log_every: The number of steps between lines of the log. The last step is always logged.
        workers: The number of threads that draw and pack conversations ahead of time. With 0, training waits for each
            batch. What is drawn does not depend on it.
        validation: How the model is measured on `data.validation`.
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
    """How a stream's tokenizer of codes is trained: by `train-tokenizer`, or by `train` before it trains the model.

    Attributes:
        untrained: If the tokenizer names no weights, use it with its random values. Otherwise `perceptio train` first
            trains it on the recipe's own data.
        steps: The number of optimizer steps.
        batch_size: The number of maps per step.
        lr: The peak learning rate of AdamW.
        warmup_steps: The number of steps of linear warm-up before the cosine decay to zero.
        edge_weight: The weight of the error of differences between neighboring pixels.
        unquantized: The share of the steps, at the beginning, without quantization, so that the codebook starts from
            meaningful latents (ours).
        seed: The random seed of this training.
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
    """One perception stream: what the model writes about an image or an object before it answers.

    Attributes:
        name: The name by which losses, tasks, settings and answers refer to the stream.
        tokenizer: Converts between the tokens of the stream and what they stand for.
        head: Maps the hidden states of the special tokens to the rows that the tokenizer reads. None if the stream is
            written as codes.
        codes_per_step: The number of codes predicted per step, or `"group"` for one of the tokenizer's groups at a
            time. The paper uses 1; a row of the grid is faster.
        read_at: Which hidden states the head reads: those at the special tokens (`"special_token"`, as in Sa2VA), or
            those at the token before each (`"previous_token"`, as in LISA).
        feedback: Maps the rows of the head to the next inputs, which replace the embeddings of the special tokens (as
            in Mirage); requires `read_at="previous_token"`. None: special tokens keep their embeddings (as in CoVT).
        training: How a tokenizer of codes is trained.
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
        """How the stream is written and what it is learned from."""
        spec: StreamSpec = self.tokenizer.spec.stream
        return spec

    @property
    def parts(self) -> dict[str, ComponentConfig]:
        """The configs of the parts of the stream, by their names in it."""
        named = {"tokenizer": self.tokenizer, "head": self.head, "feedback": self.feedback}
        return {name: config for name, config in named.items() if config is not None}


@attrs.frozen(kw_only=True)
class PointValues:
    """Quantized values of a decoded map at marked points, written before the answer (ours).

    Each level is a token of its own, not a code of a codebook, so that levels are easy to compare. For depth, the
    lowest level is the farthest and the highest the nearest. In the answer format `readout` the model writes the
    levels itself; it is supervised with those of the true codes. In the format `lookup` they are looked up on a map
    and given to the model.

    Attributes:
        levels: The number of levels.
        source: The map that is looked up. `"written"`: the map of the block that the model wrote before.
            `"vision_head"`: the map of the codes that the stream's auxiliary head predicts from the vision features,
            for which no token is written (a control).
        decoding: How the map is decoded: from the chosen codes (`"hard"`), or from the distributions from which they
            were chosen (`"soft"`). Given codes have one-hot distributions.
        trained_with: The levels that training puts in context: those of the `"true_codes"`, or those of the model's
            `"own_codes"`, each predicted after the true codes before it, which needs a second forward pass.
            Text-only samples always use the true codes.
    """

    levels: int = attrs.field(default=64, validator=_several)
    source: Literal["written", "vision_head"] = "written"
    decoding: Literal["hard", "soft"] = "hard"
    trained_with: Literal["true_codes", "own_codes"] = "true_codes"


@attrs.frozen(kw_only=True)
class Recipe:
    """A model and its training run.

    Attributes:
        name: The name of the recipe.
        vision: The vision encoder.
        vision_head: The head that maps vision features to the width of the language model.
        language: The language backbone.
        streams: The streams that are written before the answer, in order. The paper's order is segmentation, depth.
        heads: Auxiliary heads, by the name of a stream of codes. Each maps every vision feature to logits over the
            stream's codes.
        answer_format: What is written before an answer about marked points. `"direct"`: nothing, as in the paper.
            `"readout"`: the model writes the letter, place and code of each point (ours, after the chain of thought
            of AURORA). `"lookup"`: the map that the model wrote is decoded, and its value at each point is given to
            the model (ours).
        point_values: How the values of marked points are looked up, or read out instead of codes. None: codes are
            read out.
        points: How marked points are shown to the model: as location `"tokens"`, or `"drawn"` on the image. If they
            are drawn, a conversation has at most one question with points.
        readout: The stream whose grid names marked points, and which is read out or looked up. None: the first stream
            with a grid.
        tasks: Settings of tasks, by their names in the data. Tasks that are not listed use their defaults.
        losses: The terms of the training objective, with their weights.
        data: The training data.
        train: The settings of training.
        start_from: A run or checkpoint from which training starts: its weights are copied into all parts that it has
            in common with the model. In multi-stage training each stage is a recipe that starts from the stage
            before.
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
        """The configs of all parts of the model, by their names in it."""
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
        """Return the stream with this name.

        Raises:
            UnknownNameError: The recipe has no such stream.
        """
        for stream in self.streams:
            if stream.name == name:
                return stream
        known = [stream.name for stream in self.streams]
        raise UnknownNameError(f"{self.name} has no stream {name!r}{near_miss(name, known)}")

    def with_stream(self, name: str, **changes: Any) -> "Recipe":
        """Return the recipe with changed fields of one stream, given as for `attrs.evolve`.

        Raises:
            UnknownNameError: The recipe has no such stream.
        """
        own = attrs.evolve(self.stream(name), **changes)
        return attrs.evolve(self, streams=tuple(own if one.name == name else one for one in self.streams))

    @property
    def unlearned(self) -> tuple[str, ...]:
        """The streams that are written but that no loss reads, so that they are not learned."""
        return () if self.data.perceive == "never" else tuple(unlearned_streams(self))

    @property
    def looks_up_what_is_written(self) -> bool:
        """Whether marked points are looked up on the map that the model wrote before the answer."""
        values = self.point_values
        return self.answer_format == "lookup" and values is not None and values.source == "written"

    @property
    def plan(self) -> TokenPlan:
        """The token ids, derived from the parts."""
        written = {stream.name: (stream.spec, stream.codes_per_step) for stream in self.streams}
        read_before = [stream.name for stream in self.streams if stream.read_at == "previous_token"]
        levels = 0 if self.point_values is None else self.point_values.levels
        return TokenPlan.of(self.language.spec.vocab_size, written, self.readout, read_before, levels)

    @property
    def specs(self) -> ModelSpecs:
        """The facts about the model from which its losses and heads are built."""
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
        """Return the number of logits per feature of a stream's auxiliary head: the codes of its last group."""
        written = self.stream(name).spec.written
        assert isinstance(written, Codes)
        return written.codebook_sizes[written.groups[-1].codebook]

    def check(self) -> None:
        """Check the types of all values, and that the parts fit together; only values and specs are needed.

        Raises:
            RecipeError: Lists all problems, one sentence each.
        """
        found = list(problems_of(self))
        if found:
            raise RecipeError(*found)
