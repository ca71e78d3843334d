"""`perceptio explain`: what a recipe will build, before anything is trained."""

from typing import TYPE_CHECKING

from perceptio.cli.console import console, say
from perceptio.cli.recipe import ArgOption, RecipeArgument, SetOption, chosen_recipe
from perceptio.cli.startup import collector_paused

if TYPE_CHECKING:
    from rich.table import Table

    from perceptio.interfaces import StreamTokens
    from perceptio.model.perception_model import PerceptionModel
    from perceptio.recipe import Recipe, Stream

PHOTO = (480, 640)
"""Height and width of a usual picture: encoders that tile give larger ones more tokens."""
LONGEST = 80
"""Characters of a setting that are shown; a model's own JSON has thousands."""


@collector_paused()
def run(
    recipe: RecipeArgument,
    arg: ArgOption = None,
    set_: SetOption = None,
) -> None:
    """Show what a recipe builds: parts, token ids, parameters, memory, losses, fingerprint. No weights are read."""
    from perceptio.data.mixture import check_mixture
    from perceptio.model.perception_model import build_model
    from perceptio.serialize import fingerprint

    explained = chosen_recipe(recipe, arg, set_)
    check_mixture(explained)
    model = build_model(explained, device="meta")
    shown = console()
    say(shown, f"{explained.name}\n", style="bold")
    tables = (
        _parts(explained, model),
        _settings(explained),
        _memory(explained, model),
        _tokens(model),
        _losses(explained),
        _choices(explained, model),
    )
    for table in tables:
        shown.print(table)
        shown.print()
    # Last, because weights on this machine count by their contents, which takes a while where they are large.
    say(shown, f"fingerprint {fingerprint(explained)}")


def _parts(recipe: "Recipe", model: "PerceptionModel") -> "Table":
    from rich.table import Table

    from perceptio.registry import Registry

    registry = Registry.discover()
    table = Table(box=None, title="Parts", padding=(0, 1), pad_edge=False)
    for heading in ("part", "component", "provider"):
        table.add_column(heading, overflow="fold")
    for heading in ("parameters", "trained"):
        table.add_column(heading, justify="right", no_wrap=True)
    for part, config in recipe.parts.items():
        name = registry.name_of(config)
        held = list(model.get_submodule(part).parameters())
        trained = sum(p.numel() for p in held if p.requires_grad)
        counts = f"{sum(p.numel() for p in held):,}", f"{trained:,}"
        table.add_row(part, f"{config.kind}:{name}", registry.provider(config.kind, name), *counts)
    everything = list(model.parameters())
    total, trained = sum(p.numel() for p in everything), sum(p.numel() for p in everything if p.requires_grad)
    table.add_section()
    table.add_row("total", "", "", f"{total:,}", f"{trained:,}")
    return table


def _memory(recipe: "Recipe", model: "PerceptionModel") -> "Table":
    from rich.table import Table

    from perceptio.training.memory import GIB, MemoryPlan

    plan = MemoryPlan.of(model, recipe.train)
    table = Table(box=None, title="Memory, without activations and caches", padding=(0, 1), pad_edge=False)
    table.add_column("to")
    table.add_column("GiB", justify="right", no_wrap=True)
    table.add_column("of")
    table.add_row("serve", f"{plan.weights / GIB:.2f}", "weights")
    parts = (("weights", plan.weights), ("gradients", plan.gradients), ("optimizer", plan.optimizer))
    table.add_row(
        "train",
        f"{plan.training / GIB:.2f}",
        ", ".join(f"{name} {size / GIB:.2f}" for name, size in parts),
    )
    return table


def _tokens(model: "PerceptionModel") -> "Table":
    from rich.table import Table

    plan, spec = model.plan, model.language.spec
    table = Table(
        "ids", "count", "tokens", box=None, title=f"Vocabulary: {plan.size:,} ids of width {spec.hidden_dim}"
    )
    table.add_row(f"0–{plan.base_vocab - 1}", f"{plan.base_vocab}", "the text tokenizer's own")
    for name, span in plan.names:
        last = f"–{span.start + span.size - 1}" if span.size > 1 else ""
        table.add_row(f"{span.start}{last}", f"{span.size}", name)
    return table


def _losses(recipe: "Recipe") -> "Table":
    from rich.table import Table

    from perceptio.registry import Registry

    registry = Registry.discover()
    table = Table("loss", "weight", "component", "provider", box=None, title="Losses")
    for weighted in recipe.losses:
        name, kind = registry.name_of(weighted.loss), weighted.loss.kind
        term = registry.term_of(weighted.loss)
        table.add_row(term, f"{weighted.weight:g}", f"{kind}:{name}", registry.provider(kind, name))
    return table


def _settings(recipe: "Recipe") -> "Table":
    """What parts, losses and tasks are told; what their classes say anyway is left out."""
    import json

    import attrs
    from rich.table import Table

    from perceptio.interfaces import StreamLossConfig
    from perceptio.registry import Registry
    from perceptio.serialize import to_json

    registry = Registry.discover()
    table = Table("of", "setting", "value", box=None, title="Settings that are not their defaults")
    losses = {f"losses.{registry.term_of(one.loss)}": one.loss for one in recipe.losses}
    tasks = {f"tasks.{name}": task for name, task in recipe.tasks.items()}
    for part, config in (recipe.parts | losses | tasks).items():
        document = to_json(config, registry)
        for field in attrs.fields(type(config)):
            value = getattr(config, field.name)
            factory = getattr(field.default, "factory", None)
            default = factory() if factory is not None else field.default
            in_name = field.name == "stream" and isinstance(config, StreamLossConfig)
            if value != default and not in_name:
                text = json.dumps(document[field.name], ensure_ascii=False)
                table.add_row(part, field.name, text if len(text) <= LONGEST else f"{text[:LONGEST]}…")
    return table


def _choices(recipe: "Recipe", model: "PerceptionModel") -> "Table":
    from rich.table import Table

    from perceptio.ops.files import expanded

    table = Table("choice", "value", box=None, title="Choices")
    table.add_row("perceives", " → ".join((*(stream.name for stream in recipe.streams), "text")))
    unlearned = recipe.unlearned if recipe.losses else ()
    for stream in recipe.streams:
        table.add_row(stream.name, _written(stream, model.plan.streams[stream.name]))
        if fate := _codebook(stream):
            table.add_row(f"codebook of {stream.name}", fate)
        if stream.name in unlearned:
            table.add_row(f"losses of {stream.name}", "none: it is written, and nothing of it is learned")
    table.add_row("answer format", recipe.answer_format)
    counts = {size: recipe.vision.num_features(*size) for size in (recipe.vision.spec.image_size, PHOTO)}
    said = [f"{count:,} for {height}x{width} pixels" for (height, width), count in counts.items()]
    alike = len(set(counts.values())) == 1
    table.add_row("tokens per image", said[0].partition(" for")[0] if alike else ", ".join(said))
    table.add_row(
        "mixture of tasks",
        ", ".join(f"{name} {weight:g}" for name, weight in recipe.data.mixture.items() if weight > 0),
    )
    table.add_row("trains", ", ".join(recipe.train.train))
    table.add_row("parameter groups", ", ".join(sorted(model.parameter_groups())))
    places = [str(folder.path) for folder in recipe.data.folders]
    start = () if recipe.start_from is None else (recipe.start_from,)
    for name, folders in (
        ("start_from", start),
        ("data.folders", places),
        ("data.validation", recipe.data.validation),
    ):
        if folders:
            there = [one if expanded(one).exists() else f"{one} (not there)" for one in folders]
            table.add_row(name, ", ".join(there))
    steps = f"{recipe.train.steps} steps of {recipe.train.micro_batch_size} conversations, {recipe.train.precision}"
    table.add_row("training", steps)
    return table


def _written(stream: "Stream", tokens: "StreamTokens") -> str:
    """How a stream is written, and what its values mean where that is known."""
    from perceptio.interfaces import TokenBlock
    from perceptio.vocabulary import steps_in_words

    if isinstance(tokens, TokenBlock):
        sizes = " and ".join(str(span.size) for span in tokens.codebooks)
        codes = f"{tokens.length} codes of {sizes}, {steps_in_words(tokens)}"
        said = f"{tokens.length + 2} tokens an {tokens.per}: {codes}"
    else:
        said = f"{len(tokens.ids)} special token{'s' if len(tokens.ids) > 1 else ''} an {tokens.per}"
        said += ", read at the token before" if stream.read_at == "previous_token" else ""
        said += ", fed back" if stream.feedback is not None else ""
    convention = getattr(stream.tokenizer.spec, "convention", None)
    if convention is None:
        return said
    near, far = convention.near_m, convention.far_m
    return f"{said}; {f'{near:g} to {far:g} m' if convention.metric else 'relative, near is one'}"


def _codebook(stream: "Stream") -> str:
    """What becomes of a stream's tokenizer that could be trained and has no weights."""
    from perceptio.training.codebook import to_be_trained

    where = f"streams.{stream.name}"
    if to_be_trained(stream):
        return (
            f"no weights: `train` trains it first, {stream.training.steps} steps on data.folders, unless "
            f"{where}.tokenizer.weights names some"
        )
    untrained = stream.training.untrained and getattr(stream.tokenizer, "weights", None) is None
    return f"random values, as {where}.training.untrained asks" if untrained else ""
