"""What is wrong with a recipe, from its values alone: types, then whether the parts fit. Everything is said at once.

Each check reads a few fields of the recipe, and is left out where one of them has a value of another type, of which
it could say nothing true.
"""

from collections import Counter
from collections.abc import Callable, Generator, Iterator
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import attrs

from perceptio.errors import PerceptioError, near_miss, quoted
from perceptio.interfaces import (
    ComponentConfig,
    DepthSpec,
    LanguageSpec,
    Loss,
    LossConfig,
    PerceptionOutput,
    SegmentationSpec,
    VisionSpec,
)
from perceptio.ops.image_files import MAX_PIXELS
from perceptio.setting_types import problems

if TYPE_CHECKING:
    from perceptio.recipe import Recipe

SPECS: dict[str, type] = {
    "vision": VisionSpec,
    "language": LanguageSpec,
    "depth": DepthSpec,
    "segmentation": SegmentationSpec,
}
"""The parts that say what they will be, and the type in which they say it."""
PARTS = ("vision", "vision_head", "language", "segmentation", "prompt_head", "heads")
"""What may train; a depth tokenizer may not."""
_READABLE = {field.name for field in attrs.fields(PerceptionOutput)} - {"heads"}


def problems_of(recipe: "Recipe") -> Iterator[str]:
    """One sentence for everything that is wrong."""
    wrong: set[str] = set()
    for field in attrs.fields(type(recipe)):
        found = list(problems(getattr(recipe, field.name), _type_of(recipe, field.name), field.name))
        if not found and field.name in SPECS:
            found = list(_spec_problems(field.name, getattr(recipe, field.name)))
        if found:
            wrong.add(field.name)
            yield from found
    for fields, check in _CHECKS:
        if not wrong & set(fields):
            yield from check(recipe)


def named(config: ComponentConfig) -> str:
    """A component's name in a message, and where it comes from unless it is built in."""
    own = type(config)
    built_in = own.__module__.startswith("perceptio.") and ".python_files." not in own.__module__
    return config.name if built_in else f"{config.name} ({own.__module__}.{own.__qualname__})"


def _type_of(recipe: "Recipe", name: str) -> Any:
    attrs.resolve_types(type(recipe))
    return attrs.fields_dict(type(recipe))[name].type


def _spec_problems(part: str, config: Any) -> Iterator[str]:
    """What is wrong with what a part says that it will be."""
    if config is None:
        return
    try:
        spec = config.spec
    except PerceptioError as error:
        yield f"{part}: {error}"
        return
    except (Exception, SystemExit) as error:
        yield f"{part}: the spec of {named(config)} cannot be computed: {quoted(error, 400)}."
        return
    where = f"{part}: what {named(config)} says of itself, {type(spec).__name__}"
    found = list(problems(spec, SPECS[part], where))
    yield from found
    if not found:
        for field in attrs.fields(type(spec)):
            held = getattr(spec, field.name)
            numbers = held if isinstance(held, tuple) else (held,)
            least = 0 if field.name == "prompt_dim" else 1
            if any(isinstance(number, int) and number < least for number in numbers):
                yield f"{where}.{field.name}, is {held}; numbers must be at least {least}."
            elif field.name == "special_tokens" and (not held or not all(held) or len(set(held)) < len(held)):
                yield f"{where}.{field.name}, is {held}; each mask needs at least one, each with a name of its own."
            elif field.name == "image_size" and held[0] * held[1] > MAX_PIXELS:
                yield f"{where}.{field.name}, is {held}; no picture has more than {MAX_PIXELS:,} pixels."


def _order(recipe: "Recipe") -> Iterator[str]:
    for stream, config in (("segmentation", recipe.segmentation), ("depth", recipe.depth)):
        if stream in recipe.order and config is None:
            yield f"order has {stream!r}, but no {stream} tokenizer is given; add one, or leave it out of order."
    if len(set(recipe.order)) != len(recipe.order):
        yield f"order {recipe.order} names a stream twice."


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


def _codes_per_step(recipe: "Recipe") -> Iterator[str]:
    if recipe.depth is not None and recipe.depth.spec.num_codes % recipe.codes_per_step:
        yield (
            f"{recipe.codes_per_step} codes per step do not divide the {recipe.depth.spec.num_codes} codes of "
            f"{recipe.depth.name}'s {recipe.depth.spec.grid} grid; choose a divisor."
        )


def _readout(recipe: "Recipe") -> Iterator[str]:
    if recipe.answer_format == "readout" and recipe.depth is None:
        yield "the readout format speaks depth codes; give a depth tokenizer, or set answer_format='direct'."


def _prompt_head(recipe: "Recipe") -> Iterator[str]:
    tokenizer = recipe.segmentation
    if recipe.prompts_with_hidden_states and recipe.prompt_head is None:
        yield f"{tokenizer and tokenizer.name} is prompted by hidden states; give a prompt_head."
    if recipe.prompt_head is not None and not recipe.prompts_with_hidden_states:
        reason = f"{tokenizer.name} writes mask codes" if tokenizer else "there is no segmentation tokenizer"
        yield f"prompt_head has nothing to prompt, because {reason}; set it to None."


def _heads(recipe: "Recipe") -> Iterator[str]:
    for name in recipe.heads:
        if not name.isidentifier():
            yield f"heads has the name {name!r}; use letters, digits and _ only."
    if recipe.heads and recipe.depth is None:
        yield f"the heads {', '.join(recipe.heads)} predict depth codes; give a depth tokenizer, or leave them out."


def _losses(recipe: "Recipe") -> Iterator[str]:
    losses = [weighted.loss for weighted in recipe.losses]
    counts = Counter(map(type, losses))
    for own in {type(loss): loss for loss in losses}.values():
        if counts[type(own)] > 1:
            yield f"the loss {named(own)} is given {counts[type(own)]} times; once is enough."
    read: set[str] = set()
    for config in losses:
        missing = [need for need in config.needs if getattr(recipe, need, None) is None]
        for need in missing:
            yield (
                f"the loss {named(config)} needs a {need} tokenizer, and there is none; add one or leave the loss "
                "out."
            )
        loss = None
        if not missing and not any(_codes_per_step(recipe)):
            loss = yield from _built(config, recipe)
        if loss is not None:
            read |= set(loss.required_outputs)
            yield from _unreadable(config, loss, recipe)
        else:
            read |= {f"heads.{name}" for name in recipe.heads}  # Nobody knows what it would read.
    unread = [name for name in recipe.heads if f"heads.{name}" not in read]
    if unread and losses and recipe.depth is not None:
        names = ", ".join(map(repr, unread))
        yield f"no loss reads the head {names}, so that it would not learn; leave it out of heads."


def _built(config: LossConfig, recipe: "Recipe") -> Generator[str, None, Loss | None]:
    """The loss, or None after why it cannot be built for this model."""
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
    for field in loss.required_outputs:
        head = field.removeprefix("heads.")
        if head == field and field not in _READABLE:
            yield f"the loss {named(config)} reads {field!r}, which no model computes{near_miss(field, _READABLE)}"
        if head != field and head not in recipe.heads:
            yield (
                f"the loss {named(config)} reads the head named {head!r}, and there is none; "
                f'add heads={{"{head}": …}} or leave the loss out.'
            )


def _groups(recipe: "Recipe") -> Iterator[str]:
    """Names of parameter groups, as far as they can be known before the parts are built."""
    absent = {part for part in PARTS if not getattr(recipe, part)}
    train = recipe.train
    for setting, names in (("train", train.train), ("muon", train.muon), ("lr_scale", train.lr_scale)):
        for name in names:
            part, dot, _ = name.partition(".")
            where = f"train.{setting} names the parameter group {name!r}"
            if part == "depth":
                yield f"{where}; the depth tokenizer is frozen, its codes being the model's targets: leave it out."
            elif not any(fnmatchcase(known, part) for known in PARTS):
                yield f"{where}, which no part has{near_miss(name, PARTS)}"
            elif dot and part in absent:
                yield f"{where}, and the recipe has no {part}; leave it out."


def _save_pretrained_weights(recipe: "Recipe") -> Iterator[str]:
    pretrained = [name for name, part in recipe.parts.items() if getattr(part, "weights", None) is not None]
    if not recipe.train.save_pretrained_weights and set(pretrained) <= {"depth"}:
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


_BUILT = (*SPECS, "codes_per_step", "heads")
_CHECKS: tuple[tuple[tuple[str, ...], Callable[["Recipe"], Iterator[str]]], ...] = (
    (("order", "segmentation", "depth"), _order),
    (("vision",), _num_features),
    (("codes_per_step", "depth"), _codes_per_step),
    (("answer_format", "depth"), _readout),
    (("segmentation", "prompt_head"), _prompt_head),
    (("heads", "depth"), _heads),
    (("losses", *_BUILT), _losses),
    (("train", *PARTS), _groups),
    (("train", "depth", *PARTS), _save_pretrained_weights),
    (("train",), _goal),
    (("data",), _mixture),
)
"""The fields that a check reads, and the check."""
