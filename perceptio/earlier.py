"""Translates recipes and checkpoints of earlier versions to present names.

Checkpoints of format 1 had two perception streams: the masks of a `segmentation` tokenizer with prompts from a
`prompt_head`, and the codes of a `depth` tokenizer. Both are now streams with these names. A recipe that can no
longer be expressed is refused with advice.
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
"""Names of settings in earlier versions of format 1, and in its last version."""
VALUES = {
    "mask_prompt": {"at": "seg_token", "before": "previous_token"},
    "data.perceive": {"apart": "separate_task"},
}
"""The same for values, by setting."""
PARTS = {
    "depth": "streams.depth.tokenizer",
    "segmentation": "streams.segmentation.tokenizer",
    "prompt_head": "streams.segmentation.head",
    "heads.cell_codes": "heads.depth",
}
"""Parts of format 1, which are prefixes of tensors and parameter groups, and their present names."""
OF_STREAMS = {
    "codes_per_step": "streams.depth.codes_per_step",
    "depth_training": "streams.depth.training",
    "mask_prompt": "streams.segmentation.read_at",
}
"""Other settings of format 1 that now belong to a stream."""
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
"""Losses of format 1, and the present name of each with its stream."""
GONE = {"order": "streams are perceived in the order in which they are listed"}
_FORMAT_1 = {"depth", "segmentation", "prompt_head", "order", *OF_STREAMS}
"""Fields by which a recipe of format 1 is recognized."""
_GROUPS = ("vision", "vision_head", "language", "segmentation", "prompt_head", "heads")
"""Parts that could be trained in format 1."""
_READ_AT = {"seg_token": "special_token", "previous_token": "previous_token"}
_ANEW = "train it again from a recipe that lists its streams."


def current_recipe(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe's document in its present form; a present one is returned unchanged.

    Raises:
        RecipeError: It gives a setting twice, or has a setting that recipes can no longer express.
    """
    document = _renamed(document)
    return _with_streams(document) if _FORMAT_1 & document.keys() else document


def check_ids(recipe: "Recipe") -> None:
    """Refuse a recipe that was read from format 1 if its token ids have changed.

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
    """Return a recipe's setting and its value by their present names; nested settings of a part are unchanged."""
    path, value = _renamed_setting(path, value)
    if path == "mask_prompt" and isinstance(value, str):
        value = _READ_AT.get(value, value)
    return _current_path(path), value


def now_called(path: str) -> str | None:
    """Return the end of a message about a setting or loss of earlier versions; None if they had none of this name."""
    if path in GONE:
        return f": {GONE[path]}."
    now = _current_path(SETTINGS.get(path, path))
    if now == path:
        return None
    alike = now.rpartition(".")[0] == path.rpartition(".")[0]
    return f": it is called {now.rpartition('.')[2] if alike else now!r} now."


def current_component(name: str) -> str | None:
    """Return the present name of a component of format 1, for messages; None if its name is unchanged."""
    kind, _, loss = name.partition(":")
    if kind != "loss" or LOSSES.get(loss, (loss,))[0] == loss:
        return None
    now, stream = LOSSES[loss]
    return f"'loss:{now}' now, of a stream: stream={stream!r}"


def current_tensor(name: str) -> str:
    """Return the present name of a tensor in a checkpoint of format 1, or of a part of its recipe."""
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
    """Return a document of format 1 with the names of its last version."""
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
    """Return the present path of a setting of format 1's last version."""
    head, dot, rest = path.partition(".")
    if head == "losses":
        loss, dot, rest = rest.partition(".")
        return f"losses.{_current_term(loss)}{dot}{rest}"
    return _with_prefix(path, PARTS | OF_STREAMS)


def _current_term(loss: str) -> str:
    """Return the term of a loss of format 1."""
    if loss not in LOSSES:
        return loss
    now, stream = LOSSES[loss]
    return f"{stream}_{now}"


def _with_streams(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe of format 1 with its parts as streams."""
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
    """Return the training settings with present names of parameter groups and figures."""
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
    """Yield the present names of a parameter group, which may contain `*`; none for a part that does not exist."""
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
