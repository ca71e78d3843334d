"""Write the model card from a model's recipe and results: its parts, its training and its metrics."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from perceptio.model.checkpoints.pretrained import left_out_weights, pretrained_weights
from perceptio.model.network import PerceptionNetwork
from perceptio.ops.files import path_text
from perceptio.ops.hub import HUB_ID
from perceptio.recipe import Recipe
from perceptio.registry import Registry
from perceptio.serialize import fingerprint
from perceptio.vocabulary import steps_in_words

PAPER = "2603.18795"
TAGS = ("vision-language", "perception-tokens", f"arxiv:{PAPER}")


def write_card(
    model: PerceptionNetwork,
    *,
    results: Mapping[str, Any] | None = None,
    license: str | None = None,
    adapters_only: bool = False,
) -> str:
    """Return the model card, a README.md for the Hugging Face hub.

    Args:
        model: The model to describe.
        results: Metrics by data set, as `perceptio eval` writes them.
        license: A license identifier of the hub. None: "apache-2.0", or "other" if parts use pretrained weights,
            whose licenses then apply.
        adapters_only: Whether pretrained weights are left out of the checkpoint.
    """
    recipe = model.recipe
    perceived = ", then ".join(f"{_code(one.name)} once per {one.spec.per}" for one in recipe.streams)
    sections = {
        "Use": _use(recipe, adapters_only),
        "Parts": _parts(model),
        "Tokens": _tokens(model),
        "Training": _training(recipe),
        "Results": _results(results or {}) or "None were given.",
    }
    return "\n\n".join(
        [
            f"---\n{_header(recipe, license)}\n---",
            f"# {_text(recipe.name)}",
            f"A vision-language model that perceives before it answers, after *Perceptio* (arXiv {PAPER}): it writes "
            f"{perceived or 'nothing'} as tokens, and then words. The fingerprint of its recipe is "
            f"`{fingerprint(recipe)}`.",
            *(f"## {title}\n\n{text}" for title, text in sections.items()),
            "",
        ]
    )


def _header(recipe: Recipe, license: str | None) -> str:
    from huggingface_hub import ModelCardData

    bases = set(pretrained_weights(recipe).values())
    data = ModelCardData(
        library_name="perceptio",
        license=license or ("other" if bases else "apache-2.0"),
        pipeline_tag="image-text-to-text",
        base_model=sorted(base for base in bases if HUB_ID.fullmatch(base) and not Path(base).exists())
        or None,
        tags=[*TAGS, *(stream.name for stream in recipe.streams)],
    )
    return data.to_yaml()


def _use(recipe: Recipe, adapters_only: bool) -> str:
    decoded = "".join(f', answer["{stream.name}"]' for stream in recipe.streams)
    code = (
        "```python\n"
        "from perceptio import PerceptionModel\n\n"
        'model = PerceptionModel.from_pretrained("this folder, or its id on the hub")\n'
        'answer = model.ask("photo.jpg", "Which point is closest?", points=[(0.2, 0.3), (0.7, 0.6)])\n'
        f"answer.text{decoded}\n"
        "```"
    )
    if not adapters_only:
        return code
    bases = [f"{_code(weights)} ({_text(part)})" for part, weights in left_out_weights(recipe).items()]
    return (
        f"{code}\n\nThese are adapters alone. The rest is read from {', '.join(bases)} and must be what they were "
        "trained on; `from_pretrained(…, weights={part: folder})` says where it lies."
    )


def _parts(model: PerceptionNetwork) -> str:
    registry, bases = Registry.discover(), pretrained_weights(model.recipe)
    rows = []
    for part, config in model.recipe.parts.items():
        name = registry.name_of(config)
        held = list(model.get_submodule(part).parameters())
        trained = sum(p.numel() for p in held if p.requires_grad)
        rows.append(
            (
                _text(part),
                _code(f"{config.kind}:{name}"),
                _text(registry.provider(config.kind, name)),
                _code(bases[part]) if part in bases else "",
                f"{sum(p.numel() for p in held):,}",
                f"{trained:,}",
            )
        )
    return _table(("part", "component", "provider", "pretrained weights", "parameters", "trained"), rows)


def _tokens(model: PerceptionNetwork) -> str:
    plan = model.plan
    rows = [(_code(name), span.start, span.size) for name, span in plan.names]
    table = _table(("tokens", "first id", "count"), [("the text tokenizer's own", 0, plan.base_vocab), *rows])
    blocks = [
        f"A block of {_code(name)} is {block.length} codes, predicted {steps_in_words(block)}."
        for name, block in plan.blocks()
    ]
    return "\n\n".join([table, *blocks])


def _training(recipe: Recipe) -> str:
    train, data = recipe.train, recipe.data
    facts = [
        ("steps", train.steps),
        ("conversations a step", train.micro_batch_size * train.grad_accumulation),
        ("learning rate", f"{train.lr:g}"),
        ("precision", train.precision),
        ("trained", ", ".join(map(_code, train.train))),
        ("data", ", ".join(f"{_code(folder.path)} (weight {folder.weight:g})" for folder in data.folders)),
        ("tasks", ", ".join(f"{_text(task)} (weight {weight:g})" for task, weight in data.mixture.items())),
        ("perception and answers", f"{_code(data.perceive)}, {_code(recipe.answer_format)}"),
    ]
    registry = Registry.discover()
    losses = [(_code(registry.term_of(one.loss)), f"{one.weight:g}") for one in recipe.losses]
    return f"{_table(('setting', 'value'), facts)}\n\n{_table(('loss', 'weight'), losses)}"


def _results(results: Mapping[str, Any]) -> str:
    """Return one table per data set."""
    tables = [
        f"### {_text(name)}\n\n{_table(('figure', 'value', 'count'), _figures(figures))}"
        for name, figures in results.items()
        if isinstance(figures, Mapping)
    ]
    return "\n\n".join(tables)


def _figures(figures: Mapping[str, Any], prefix: str = "", count: Any = "") -> Iterator[tuple[str, str, Any]]:
    """Yield every metric with the number of questions, objects or maps over which it was computed."""
    count = figures.get("count", count)
    for name, value in figures.items():
        if isinstance(value, Mapping):
            yield from _figures(value, f"{prefix}{name}.", count)
        elif name != "count":
            yield _text(f"{prefix}{name}"), _shown(value), count


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " to ".join(map(_shown, value))
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else _text(value)


def _text(name: Any) -> str:
    """Return a name as Markdown text, on one line and with all markup escaped."""
    return re.sub(r"([\\`*\[\]<>&])", r"\\\1", _line(name))


def _code(name: Any) -> str:
    """Return a name as Markdown code, between more backticks than it has in a row."""
    line = _line(name)
    ticks = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    return f"{ticks} {line} {ticks}" if "`" in line else f"`{line}`"


def _line(name: Any) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in path_text(str(name))).split())


def _table(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(
        "| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines
    )
