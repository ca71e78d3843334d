"""Recipes and checkpoints of earlier versions, told by the names that things have now.

Checkpoints of format 1 knew two streams of perception, the masks of a `segmentation` tokenizer, which a `prompt_head`
prompted, and the codes of a `depth` tokenizer. Both are streams of these names now. What such a recipe cannot say any
more is refused, with what to do.
"""

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from perceptio.errors import RecipeError, quoted
from perceptio.interfaces import Codes

if TYPE_CHECKING:
    from perceptio.recipe import Recipe

SETTINGS = {
    "prompt_state": "mask_prompt",
    "data.readings": "data.text_only_readout",
    "data.comparisons": "data.text_only_comparison",
    "data.pictures": "data.vision_only",
    "train.batch_size": "train.micro_batch_size",
    "train.accumulate": "train.grad_accumulation",
    "train.clip": "train.max_grad_norm",
    "train.save_base": "train.save_pretrained_weights",
}
"""Settings by the names that earlier versions of format 1 wrote, and what its last version called them."""
VALUES = {
    "mask_prompt": {"at": "seg_token", "before": "previous_token"},
    "data.perceive": {"apart": "separate_task"},
}
"""The same of values, by setting."""
PARTS = {
    "depth": "streams.depth.tokenizer",
    "segmentation": "streams.segmentation.tokenizer",
    "prompt_head": "streams.segmentation.head",
    "heads.cell_codes": "heads.depth",
}
"""Parts of format 1, by which their tensors and parameter groups are named, and what they are called now."""
OF_STREAMS = {
    "codes_per_step": "streams.depth.codes_per_step",
    "depth_training": "streams.depth.training",
    "mask_prompt": "streams.segmentation.read_at",
}
"""Other settings of format 1 that belong to a stream now."""
LOSSES = {
    "depth_marker": ("marker", "depth"),
    "depth_token": ("token", "depth"),
    "depth_count": ("count", "depth"),
    "expected_count": ("expected_count", "depth"),
    "depth_reconstruction": ("soft_reconstruction", "depth"),
    "cell_codes": ("cell_codes", "depth"),
    "mask_bce": ("mask_bce", "segmentation"),
    "dice": ("dice", "segmentation"),
    "mask_quality": ("mask_quality", "segmentation"),
}
"""Losses of format 1, and what each is called now with its stream."""
GONE = {"order": "streams are perceived in the order in which they are listed"}
_FORMAT_1 = {"depth", "segmentation", "prompt_head", "order", *OF_STREAMS}
"""By these fields a recipe of format 1 is known."""
_GROUPS = ("vision", "vision_head", "language", "segmentation", "prompt_head", "heads")
"""The parts that trained in format 1."""
_READ_AT = {"seg_token": "special_token", "previous_token": "previous_token"}
_ANEW = "train it again from a recipe that lists its streams."


def current_recipe(document: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's document as today's version would have written it; one of today's comes back as it is.

    Raises:
        RecipeError: It gives a setting twice, or says what recipes cannot say any more.
    """
    document = _renamed(document)
    return _with_streams(document) if _FORMAT_1 & document.keys() else document


def check_ids(recipe: "Recipe") -> None:
    """Refuse a recipe that was read from format 1, if its token ids are others now.

    Raises:
        RecipeError: Its segmentation tokenizer writes mask codes.
    """
    for stream in recipe.streams:
        if stream.spec.per == "object" and isinstance(stream.spec.written, Codes):
            raise RecipeError(
                f"The tokenizer of the stream {stream.name!r} writes codes, which an earlier version wrote after "
                f"special tokens. They stand between markers now, so that ids are others: {_ANEW}"
            )


def current_setting(path: str, value: Any) -> tuple[str, Any]:
    """A setting of a recipe and its value by their present names; a value of a part of its own is left alone."""
    path, value = _renamed_setting(path, value)
    if path == "mask_prompt" and isinstance(value, str):
        value = _READ_AT.get(value, value)
    return _current_path(path), value


def now_called(path: str) -> str | None:
    """How a message goes on after a setting or a loss that earlier versions had; None where they had none."""
    if path in GONE:
        return f": {GONE[path]}."
    now = _current_path(SETTINGS.get(path, path))
    if now == path:
        return None
    alike = now.rpartition(".")[0] == path.rpartition(".")[0]
    return f": it is called {now.rpartition('.')[2] if alike else now!r} now."


def current_component(name: str) -> str | None:
    """What a component of format 1 is called now, for messages; None where its name is the same."""
    kind, _, loss = name.partition(":")
    if kind != "loss" or LOSSES.get(loss, (loss,))[0] == loss:
        return None
    now, stream = LOSSES[loss]
    return f"'loss:{now}' now, of a stream: stream={stream!r}"


def current_tensor(name: str) -> str:
    """A tensor of a checkpoint of format 1, or a part of its recipe, by its present name."""
    return _with_prefix(name, PARTS)


def tensor_of_format_1(name: str) -> str:
    """The inverse of `current_tensor`."""
    return _with_prefix(name, {now: then for then, now in PARTS.items()})


def _with_prefix(name: str, prefixes: Mapping[str, str]) -> str:
    for then, now in prefixes.items():
        if name == then or name.startswith(f"{then}."):
            return now + name.removeprefix(then)
    return name


def _renamed_setting(path: str, value: Any) -> tuple[str, Any]:
    path = SETTINGS.get(path, path)
    names = VALUES.get(path, {})
    return path, names.get(value, value) if isinstance(value, str) else value


def _renamed(document: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """A document of format 1 by the names of its last version."""
    result: dict[str, Any] = {}
    for key, held in document.items():
        path = f"{where}.{key}".lstrip(".")
        if isinstance(held, Mapping) and any(old.startswith(f"{path}.") for old in SETTINGS):
            held = _renamed(held, path)
        path, held = _renamed_setting(path, held)
        now = path.rpartition(".")[2]
        if now in result or (now != key and now in document):
            raise RecipeError(f"{path} is given twice, once as {key!r}, its earlier name; leave one out.")
        result[now] = held
    return result


def _current_path(path: str) -> str:
    """The path of a setting of format 1's last version, as it is now."""
    head, dot, rest = path.partition(".")
    if head == "losses":
        loss, dot, rest = rest.partition(".")
        return f"losses.{_current_term(loss)}{dot}{rest}"
    return _with_prefix(path, PARTS | OF_STREAMS)


def _current_term(loss: str) -> str:
    """What the term of a loss of format 1 is called."""
    if loss not in LOSSES:
        return loss
    now, stream = LOSSES[loss]
    return f"{stream}_{now}"


def _with_streams(document: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe of format 1 with its parts as streams."""
    own = {name: document.get(name) for name in _FORMAT_1}
    if "streams" in document:
        both = ", ".join(sorted(_FORMAT_1 & document.keys()))
        raise RecipeError(f"streams is given, and so is {both} of an earlier version; leave the latter out.")
    given = [name for name in ("segmentation", "depth") if own[name] is not None]
    order = own["order"] if own["order"] is not None else given
    if isinstance(order, list | tuple) and list(order) != given:
        raise RecipeError(
            f"order is {quoted(order)} in this recipe of an earlier version. Token ids are allotted in the order in "
            f"which streams are perceived now, and its ids are those of {' and then '.join(given) or 'no stream'}: "
            f"{_ANEW}"
        )
    streams: list[dict[str, Any]] = []
    if own["segmentation"] is not None:
        prompt = own["mask_prompt"] or "seg_token"
        read_at = _READ_AT.get(prompt, prompt) if isinstance(prompt, str) else prompt
        head = own["prompt_head"]
        streams.append(
            {"name": "segmentation", "tokenizer": own["segmentation"], "head": head, "read_at": read_at}
        )
    if own["depth"] is not None:
        depth = {"name": "depth", "tokenizer": own["depth"]}
        settings = {"codes_per_step": own["codes_per_step"], "training": own["depth_training"]}
        streams.append(depth | {name: value for name, value in settings.items() if value is not None})
    rest = {name: held for name, held in document.items() if name not in _FORMAT_1}
    parts = {*given, *(["prompt_head"] if own["segmentation"] is not None else [])}
    changed = {
        "streams": streams,
        "heads": _heads(document.get("heads")),
        "losses": _losses(document.get("losses")),
        "train": _train(document.get("train"), parts),
    }
    return rest | {name: held for name, held in changed.items() if held is not None}


def _heads(heads: Any) -> Any:
    if not isinstance(heads, Mapping):
        return heads
    others = [name for name in heads if name != "cell_codes"]
    if others:
        raise RecipeError(
            f"heads has {quoted(others[0])} in this recipe of an earlier version, and an auxiliary head is named by "
            f"the stream whose codes it predicts now: {_ANEW}"
        )
    return {"depth": heads["cell_codes"]} if heads else {}


def _losses(losses: Any) -> Any:
    if not isinstance(losses, list | tuple):
        return losses
    return [
        {**one, "loss": _loss(one["loss"])} if isinstance(one, Mapping) and "loss" in one else _loss(one)
        for one in losses
    ]


def _loss(loss: Any) -> Any:
    settings = dict(loss) if isinstance(loss, Mapping) else {"component": loss}
    name = str(settings.get("component")).removeprefix("loss:")
    if name not in LOSSES:
        return loss
    now, stream = LOSSES[name]
    return settings | {"component": f"loss:{now}", "stream": stream}


def _train(train: Any, parts: set[str]) -> Any:
    """How a recipe trains, by the present names of parameter groups and figures."""
    if not isinstance(train, Mapping):
        return train
    result = dict(train)
    if isinstance(train.get("train"), list | tuple):
        result["train"] = list(dict.fromkeys(now for one in train["train"] for now in _groups(one, parts)))
    for setting in ("muon", "lr_scale"):
        if isinstance(train.get(setting), Mapping):
            found: dict[str, Any] = {}
            for name, value in sorted(train[setting].items(), key=lambda item: "*" in item[0]):
                for now in _groups(name, parts):
                    found.setdefault(now, value)
            result[setting] = found
    validation = train.get("validation")
    if isinstance(validation, Mapping) and isinstance(validation.get("best"), str):
        loss, dot, metric = validation["best"].partition(".")
        result["validation"] = {**validation, "best": f"{_current_term(loss)}{dot}{metric}"}
    return result


def _groups(name: Any, parts: set[str]) -> Iterator[Any]:
    """The present names of a parameter group, which may have `*` in it; of a part that there is not, none."""
    part, dot, rest = name.partition(".") if isinstance(name, str) else (name, "", "")
    if part == "*" or not isinstance(name, str):
        yield name
        return
    of_streams = {"segmentation", "prompt_head"}
    meant = [one for one in _GROUPS if fnmatchcase(one, part)]
    if not of_streams & {*meant}:
        yield current_tensor(name)
        return
    for one in meant:
        if one in parts or one not in of_streams:
            yield current_tensor(f"{one}{dot}{rest}")
