"""The checks of a recipe, from its values alone: first types, then whether the parts fit. All problems are reported.

Each check reads a few fields of the recipe. It is skipped if one of them has a value of the wrong type, because its
result would be meaningless.
"""

import re
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import attrs

from perceptio.errors import PerceptioError, near_miss, quoted
from perceptio.interfaces import (
    Codes,
    ComponentConfig,
    Continuous,
    HeadConfig,
    LanguageSpec,
    Loss,
    LossConfig,
    PerceptionOutput,
    StreamOutput,
    StreamSpec,
    Task,
    VisionSpec,
    named_weights,
    steps_of,
)
from perceptio.ops.image_files import MAX_PIXELS
from perceptio.point_checks import point_value_problems, readout_problems
from perceptio.python_files import file_of
from perceptio.setting_types import problems

if TYPE_CHECKING:
    from perceptio.recipe import Recipe, Stream

SPECS: dict[str, type] = {"vision": VisionSpec, "language": LanguageSpec}
"""The type of the spec of each part that every model has."""
PARTS = ("vision", "vision_head", "language", "streams", "heads")
"""The fields of a recipe whose parts have parameters."""
_READABLE = {field.name for field in attrs.fields(PerceptionOutput)} - {"heads", "streams"}
_OF_STREAMS = {field.name for field in attrs.fields(StreamOutput)}
_OF_CODES = {"logits_NXV", "soft"}
"""The output fields of streams of codes; the others belong to streams of special tokens."""


def problems_of(recipe: "Recipe") -> Iterator[str]:
    """Yield one sentence for each problem of a recipe."""
    wrong: set[str] = set()
    for field in attrs.fields(type(recipe)):
        found = list(problems(getattr(recipe, field.name), _type_of(recipe, field.name), field.name))
        if not found and field.name in SPECS:
            config = getattr(recipe, field.name)
            found = list(_spec_problems(field.name, config, SPECS[field.name]))
        if not found and field.name == "streams":
            found = list(_stream_problems(recipe))
        if found:
            wrong.add(field.name)
            yield from found
    for fields, check in _CHECKS:
        if not wrong & set(fields):
            yield from check(recipe)


def unlearned_streams(recipe: "Recipe") -> Iterator[str]:
    """Yield the names of streams that no loss reads. The recipe must be valid."""
    read = {field for one in recipe.losses for field in one.loss.build(recipe.specs).required_outputs}
    for stream in recipe.streams:
        if not any(field.startswith(f"streams.{stream.name}.") for field in read):
            yield stream.name


def named(config: ComponentConfig) -> str:
    """Return a component's name for a message, with its origin unless it is built in."""
    own = type(config)
    file = file_of(own.__module__)
    if file is not None:
        return f"{config.name} ({own.__qualname__} of {file})"
    built_in = own.__module__.startswith("perceptio.")
    return config.name if built_in else f"{config.name} ({own.__module__}.{own.__qualname__})"


def _type_of(recipe: "Recipe", name: str) -> Any:
    attrs.resolve_types(type(recipe))
    return attrs.fields_dict(type(recipe))[name].type


def _spec_problems(part: str, config: Any, wanted: type | None) -> Iterator[str]:
    """Yield the problems of a part's spec; `wanted` is its type, or None for tokenizers, whose types vary."""
    try:
        spec = config.spec
        stream = None if wanted else spec.stream
    except PerceptioError as error:
        yield f"{part}: {error}"
        return
    except (Exception, SystemExit) as error:
        yield f"{part}: the spec of {named(config)} cannot be computed: {quoted(error, 400)}."
        return
    where = f"{part}: what {named(config)} says of itself, {type(spec).__name__}"
    found = list(problems(spec, wanted or type(spec), where))
    if not found and wanted is None:
        found = list(problems(stream, StreamSpec, f"{where}.stream"))
    yield from found
    if not found:
        for field in attrs.fields(type(spec)):
            held = getattr(spec, field.name)
            numbers = held if isinstance(held, tuple) else (held,)
            least = 0 if field.name == "prompt_dim" else 1
            if any(isinstance(number, int) and number < least for number in numbers):
                yield f"{where}.{field.name}, is {held}; numbers must be at least {least}."
            elif field.name == "image_size" and held and held[0] * held[1] > MAX_PIXELS:
                yield f"{where}.{field.name}, is {held}; no picture has more than {MAX_PIXELS:,} pixels."
        if stream is not None and (stream.per == "object") != (stream.target == "masks"):
            learned = f"is written per {stream.per} and learned from {stream.target!r}"
            yield f"{where} {learned}; objects are learned from 'masks', images from anything else: change one."
        if stream is not None and isinstance(stream.written, Continuous):
            tokens = stream.written.tokens
            if not tokens or not all(tokens):
                yield f"{where} has the special tokens {tokens}; there must be at least one, each with a name."
        elif stream is not None and min((group.length for group in stream.written.groups), default=0) < 1:
            yield f"{where} has a group without codes."
        elif stream is not None and min(stream.written.codebook_sizes) < 2:
            sizes = ", ".join(map(str, stream.written.codebook_sizes))
            yield f"{where} has codebooks of {sizes} codes; at least 2 can say something different."


def _stream_problems(recipe: "Recipe") -> Iterator[str]:
    """Yield the problems of the streams: names, the specs of tokenizers, and whether the parts of a stream fit."""
    names = Counter(stream.name for stream in recipe.streams)
    for name, count in names.items():
        if count > 1:
            yield f"streams has {count} of the name {name!r}; give each a name of its own."
        if not name.isidentifier():
            yield f"streams has the name {name!r}; use letters, digits and _ only."
        if name in ("loc", "level"):
            yield f"streams has the name {name!r}, by which tokens of marked points are called; choose another."
    written: dict[str, Codes | Continuous] = {}
    for stream in recipe.streams:
        where = f"streams.{stream.name}"
        found = list(_spec_problems(f"{where}.tokenizer", stream.tokenizer, None))
        yield from found or _fit(stream, where)
        if not found:
            written[stream.name] = stream.spec.written
    yield from _alike_tokens(written)


def _alike_tokens(written: Mapping[str, Codes | Continuous]) -> Iterator[str]:
    """Yield special tokens that have the name of another stream's special token or of a code."""
    owners: dict[str, str] = {}
    shared: dict[tuple[str, str], list[str]] = {}
    of_codes = "|".join(name for name, one in written.items() if isinstance(one, Codes))
    allotted = re.compile(
        rf"<(loc|level|{of_codes})_(start|end|\d+|\d+_\d+)>" if of_codes else r"<(loc|level)_\d+>"
    )
    for name, one in written.items():
        for token in dict.fromkeys(one.tokens) if isinstance(one, Continuous) else ():
            if allotted.fullmatch(token):
                yield (
                    f"the stream {name!r} has the special token {token!r}, and codes and places have tokens of such "
                    "names; give it another name."
                )
            elif (owner := owners.setdefault(token, name)) != name:
                shared.setdefault((owner, name), []).append(token)
    for (first, second), tokens in shared.items():
        said = "token" if len(tokens) == 1 else "tokens"
        yield (
            f"the streams {first!r} and {second!r} both have the special {said} {', '.join(map(repr, tokens))}; give "
            "those of one of them other names."
        )


def _fit(stream: "Stream", where: str) -> Iterator[str]:
    """Check that the head, the feedback and the codes per step of a stream fit the way it is written."""
    written, tokenizer = stream.spec.written, named(stream.tokenizer)
    if isinstance(written, Codes):
        try:
            steps_of(written, stream.codes_per_step)
        except ValueError as error:
            yield f"{where}.codes_per_step: {error}"
        for name in ("head", "feedback"):
            if getattr(stream, name) is not None:
                yield f"{where}.{name} has nothing to read, because {tokenizer} is written as codes; set it to None."
        return
    if stream.codes_per_step != 1:
        yield f"{where}.codes_per_step has no codes to count: {tokenizer} is written as special tokens; set it to 1."
    if stream.head is None:
        yield f"{where}: {tokenizer} reads hidden states; give the stream a head."
    else:
        rows = _num_rows(stream.head, len(written.tokens))
        if isinstance(rows, str):
            yield f"{where}.head: {rows}"
        elif rows != written.num_rows:
            yield (
                f"{where}.head makes {rows} rows of {len(written.tokens)} special tokens, and {tokenizer} reads "
                f"{written.num_rows}; use a head that makes as many, such as query."
            )
    if stream.feedback is not None and stream.read_at != "previous_token":
        yield (
            f"{where} is fed back, so that a token holds what was read before it; set {where}.read_at to "
            "'previous_token'."
        )
    if stream.feedback is not None and stream.head is not None and _num_rows(stream.head, 1) != 1:
        yield f"{where} is fed back row by row, and its head mixes rows; use one that maps each by itself, as linear."
    if stream.feedback is not None and written.num_rows != len(written.tokens):
        yield (
            f"{where} is fed back row by row, and {tokenizer} reads {written.num_rows} rows of {len(written.tokens)} "
            "special tokens; leave feedback out."
        )
    if stream.feedback is not None and stream.spec.per == "object":
        yield f"{where} is written once per object and cannot be fed back; leave feedback out."


def _num_rows(head: HeadConfig, count: int) -> int | str:
    """Return how many rows a head makes, or a sentence that says why this is unknown."""
    try:
        rows = head.num_rows(count)
    except (Exception, SystemExit) as error:
        return f"the num_rows of {named(head)} cannot be computed: {quoted(error, 400)}."
    return (
        rows
        if type(rows) is int
        else f"{named(head)} says that it makes {quoted(rows)} rows; give a whole number."
    )


def _num_features(recipe: "Recipe") -> Iterator[str]:
    who, size = named(recipe.vision), recipe.vision.spec.image_size
    try:
        count = recipe.vision.num_features(*size)
    except PerceptioError as error:
        yield f"vision: {error}"
        return
    except (Exception, SystemExit) as error:
        yield f"vision: the num_features of {who} cannot be computed: {quoted(error, 400)}."
        return
    if type(count) is not int or count < 1:
        yield f"vision: {who} says that a picture of {size} has {quoted(count)} features; it must be at least 1."


def _heads(recipe: "Recipe") -> Iterator[str]:
    streams = {stream.name: stream.spec.written for stream in recipe.streams}
    for name in recipe.heads:
        if name not in streams:
            yield f"heads names the stream {name!r}, which is not among streams{near_miss(name, streams)}"
        elif not isinstance(streams[name], Codes):
            yield f"the head {name!r} predicts codes, and its stream is written as special tokens; leave it out."


def _losses(recipe: "Recipe") -> Iterator[str]:
    if any(readout_problems(recipe)):
        return  # Losses are built from token ids, which are unknown.
    configs = [weighted.loss for weighted in recipe.losses]
    counts = Counter((type(config), config.term) for config in configs)
    for config in {(type(config), config.term): config for config in configs}.values():
        if counts[type(config), config.term] > 1:
            yield f"the loss {named(config)} is given twice as {config.term}; once is enough."
    read: set[str] = set()
    known = True
    for config in configs:
        loss = yield from _built(config, recipe)
        if loss is not None:
            read |= set(loss.required_outputs)
            yield from _unreadable(config, loss, recipe)
        known = known and loss is not None
    unread = [name for name in recipe.heads if f"heads.{name}" not in read]
    if unread and configs and known:  # A loss that cannot be built might have read it.
        names = ", ".join(map(repr, unread))
        yield f"no loss reads the head {names}, so that it would not learn; leave it out of heads."


def _built(config: LossConfig, recipe: "Recipe") -> Generator[str, None, Loss | None]:
    """Return the loss, or yield why it cannot be built for this model and return None."""
    try:
        loss = config.build(recipe.specs)
    except PerceptioError as error:
        yield str(error)
        return None
    except (Exception, SystemExit) as error:
        yield f"the loss {named(config)} cannot be built: {quoted(error, 400)}."
        return None
    if not isinstance(loss, Loss):
        yield f"the loss {named(config)} builds a {type(loss).__name__}, which is no Loss."
        return None
    outputs = getattr(loss, "required_outputs", None)
    if isinstance(outputs, tuple) and all(isinstance(one, str) for one in outputs):
        return loss
    yield (
        f"the loss {named(config)} states {quoted(outputs)} as its required_outputs; it must be a tuple of names of "
        "what a model computes."
    )
    return None


def _unreadable(config: LossConfig, loss: Loss, recipe: "Recipe") -> Iterator[str]:
    streams = {stream.name: stream.spec.written for stream in recipe.streams}
    for field in loss.required_outputs:
        kind, _, rest = field.partition(".")
        name, _, inner = rest.partition(".")
        who = f"the loss {named(config)} reads"
        if kind == "heads" and rest not in recipe.heads:
            yield (
                f"{who} the head of the stream {rest!r}, and there is none; "
                f'add heads={{"{rest}": …}} or leave the loss out.'
            )
        elif kind == "streams" and name not in streams:
            yield f"{who} the stream {name!r}, which is not among streams{near_miss(name, streams)}"
        elif kind == "streams" and inner not in _OF_STREAMS:
            yield f"{who} {field!r}, which no model computes{near_miss(inner, _OF_STREAMS)}"
        elif kind == "streams" and (inner in _OF_CODES) != isinstance(streams[name], Codes):
            written = "codes" if isinstance(streams[name], Codes) else "special tokens"
            yield f"{who} {field!r}, and the stream {name!r} is written as {written}; leave the loss out."
        elif kind not in ("heads", "streams") and field not in _READABLE:
            yield f"{who} {field!r}, which no model computes{near_miss(field, _READABLE)}"


def _groups(recipe: "Recipe") -> Iterator[str]:
    """Check the names of parameter groups, as far as they are known before the parts are built."""
    absent = {part for part in PARTS if not getattr(recipe, part)}
    frozen = {
        f"streams.{one.name}.tokenizer": (
            "a tokenizer of codes is frozen, as its codes are the model's targets"
            if isinstance(one.spec.written, Codes)
            else f"{named(one.tokenizer)} is always frozen"
        )
        for one in recipe.streams
        if not one.spec.trains
    }
    parts = (*PARTS[:3], *(name for name in recipe.parts if name.count(".")))
    train = recipe.train
    for setting, names in (("train", train.train), ("muon", train.muon), ("lr_scale", train.lr_scale)):
        for name in names:
            where = f"train.{setting} names the parameter group {name!r}"
            part, dot, _ = name.partition(".")
            why = next(
                (why for one, why in frozen.items() if name == one or name.startswith(f"{one}.")), None
            )
            if why:
                yield f"{where}; {why}: leave it out."
            elif not any(fnmatchcase(known, part) for known in PARTS):
                yield f"{where}, which no part has{near_miss(name, parts)}"
            elif dot and part in absent and "*" not in name:
                yield f"{where}, and the recipe has no {part}; leave it out."


def _save_pretrained_weights(recipe: "Recipe") -> Iterator[str]:
    kept = tuple(
        f"streams.{one.name}.tokenizer" for one in recipe.streams if isinstance(one.spec.written, Codes)
    )
    pretrained = [name for name in named_weights(recipe.parts) if not name.startswith(kept)]
    if not recipe.train.save_pretrained_weights and not pretrained:
        yield (
            "train.save_pretrained_weights is False, and no part names pretrained weights that could be left out of "
            "checkpoints; set it to True."
        )


def _goal(recipe: "Recipe") -> Iterator[str]:
    settings = recipe.train.validation
    if "." in settings.best and settings.goal is None:
        yield (
            f"train.validation.best is the metric {settings.best!r}: say with train.validation.goal whether its "
            "'highest' or its 'lowest' value is best."
        )


def _mixture(recipe: "Recipe") -> Iterator[str]:
    mixture = recipe.data.mixture
    negative = [task for task, weight in mixture.items() if weight < 0]
    if negative:
        yield f"data.mixture has weights below 0, of {', '.join(negative)}."
    elif not any(mixture.values()):
        yield "data.mixture has no task of a weight above 0."


def _tasks(recipe: "Recipe") -> Iterator[str]:
    if any(readout_problems(recipe)):
        return  # Tasks are built from token ids, which are unknown.
    written = [stream.name for stream in recipe.streams if stream.spec.per == "image"]
    for name, config in recipe.tasks.items():
        where = f"tasks.{name}"
        try:
            task = config.build(recipe.specs)
        except PerceptioError as error:
            yield f"{where}: {error}"
            continue
        except (Exception, SystemExit) as error:
            yield f"{where}: the task {named(config)} cannot be built: {quoted(error, 400)}."
            continue
        if not isinstance(task, Task):
            yield f"{where}: the task {named(config)} builds a {type(task).__name__}, which is no Task."
            continue
        if not isinstance(task.required, tuple):
            yield f"{where} requires {quoted(task.required)}; it must be a tuple of names of streams."
            continue
        for stream in task.required:
            if stream not in written:
                yield (
                    f"{where} requires the stream {stream!r}, which is not among those that are written once per "
                    f"image{near_miss(stream, written)}"
                )


_BUILT = (*SPECS, "answer_format", "streams", "readout", "point_values", "heads")
_CHECKS: tuple[tuple[tuple[str, ...], Callable[["Recipe"], Iterator[str]]], ...] = (
    (("vision",), _num_features),
    (("answer_format", "streams", "readout"), readout_problems),
    (("answer_format", "point_values", "streams", "readout", "heads", "data"), point_value_problems),
    (("heads", "streams"), _heads),
    (("losses", *_BUILT), _losses),
    (("tasks", *_BUILT), _tasks),
    (("train", *PARTS), _groups),
    (("train", *PARTS), _save_pretrained_weights),
    (("train",), _goal),
    (("data",), _mixture),
)
"""The checks, each with the fields that it reads."""
