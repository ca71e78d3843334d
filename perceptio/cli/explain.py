"""`perceptio explain`: show what a recipe builds before anything is trained, or how two recipes differ."""

from typing import TYPE_CHECKING, Annotated

import typer

from perceptio.cli.console import console, say
from perceptio.cli.model_facts import answers, counted, step_in_words, tokens_per_image, written
from perceptio.cli.recipe import ArgOption, RecipeArgument, SetOption, chosen_recipe
from perceptio.cli.recipe_differences import LONGEST, show_differences
from perceptio.cli.startup import collector_paused
from perceptio.ops.wording import number_of

if TYPE_CHECKING:
    from rich.table import Table

    from perceptio.model.perception_model import PerceptionModel
    from perceptio.recipe import Recipe, Stream


@collector_paused()
def run(
    recipe: RecipeArgument,
    other: Annotated[
        str | None,
        typer.Argument(
            help="A second recipe, to show how it differs. --arg and --set then apply to this one, so naming the "
            "same recipe twice shows the effect of a setting."
        ),
    ] = None,
    arg: ArgOption = None,
    set_: SetOption = None,
    peak: Annotated[
        bool,
        typer.Option(
            "--peak",
            help="Also compute the peak memory of a training step on data.folders. This takes from some seconds to a "
            "minute and runs on shapes only, without allocating tensors.",
        ),
    ] = False,
) -> None:
    """Show what a recipe builds, without reading weights: parts, token ids, parameters, memory, losses, fingerprint.

    For two recipes, show the settings that differ and their effect.
    """
    from perceptio.errors import InputError
    from perceptio.serialize import fingerprint

    shown = console()
    if other is not None and peak:
        raise InputError("--peak is of one recipe, and two are named: explain each by itself.")
    if other is not None:
        first, second = chosen_recipe(recipe, None, None), chosen_recipe(other, arg, set_)
        show_differences(shown, (first, _built(first)), (second, _built(second)))
        return
    explained = chosen_recipe(recipe, arg, set_)
    model = _built(explained)
    say(shown, f"{explained.name}\n", style="bold")
    tables = (
        _parts(explained, model),
        _settings(explained),
        _memory(explained, model, peak=peak),
        _tokens(model),
        _losses(explained),
        _choices(explained, model),
    )
    for table in tables:
        shown.print(table)
        shown.print()
    # Last, because the fingerprint hashes local weights, which takes a while if they are large.
    say(shown, f"fingerprint {fingerprint(explained)}")


def _built(recipe: "Recipe") -> "PerceptionModel":
    """Build the model of a recipe on the meta device, without memory for its tensors."""
    from perceptio.data.mixture import check_mixture
    from perceptio.model.perception_model import build_model

    check_mixture(recipe)
    return build_model(recipe, device="meta")


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
        counts = (f"{count:,}" for count in counted(model.get_submodule(part)))
        table.add_row(part, f"{config.kind}:{name}", registry.provider(config.kind, name), *counts)
    total, trained = (f"{count:,}" for count in counted(model))
    table.add_section()
    table.add_row("total", "", "", total, trained)
    return table


def _memory(recipe: "Recipe", model: "PerceptionModel", *, peak: bool) -> "Table":
    from rich.table import Table

    from perceptio.training.memory import GIB, MemoryPlan

    plan = MemoryPlan.of(model, recipe.train)
    without = "caches" if peak else "activations and caches"
    table = Table(box=None, title=f"Memory, without {without}", padding=(0, 1), pad_edge=False)
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
    if peak:
        from perceptio.training.foretold import foretell

        step = foretell(recipe)
        table.add_row("peak of a step", f"{step.resident / GIB:.2f}", step_in_words(step))
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
    """List the settings of parts, losses and tasks that differ from their class's defaults."""
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
    from perceptio.ops.wording import in_natural_order

    table = Table("choice", "value", box=None, title="Choices")
    table.add_row("perceives", " → ".join((*(stream.name for stream in recipe.streams), "text")))
    unlearned = recipe.unlearned if recipe.losses else ()
    for stream in recipe.streams:
        table.add_row(stream.name, written(stream, model.plan.streams[stream.name]))
        if fate := _codebook(stream):
            table.add_row(f"codebook of {stream.name}", fate)
        if stream.name in unlearned:
            table.add_row(f"losses of {stream.name}", "none: it is written, and nothing of it is learned")
    table.add_row("answer format", answers(recipe))
    table.add_row("tokens per image", tokens_per_image(recipe))
    table.add_row(
        "mixture of tasks",
        ", ".join(f"{name} {weight:g}" for name, weight in recipe.data.mixture.items() if weight > 0),
    )
    table.add_row("trains", ", ".join(recipe.train.train))
    table.add_row("parameter groups", ", ".join(in_natural_order(model.parameter_groups())))
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
    train = recipe.train
    conversations = number_of(train.micro_batch_size, "conversation")
    steps = f"{number_of(train.steps, 'step')} of {conversations}, {train.precision}"
    table.add_row("training", steps)
    return table


def _codebook(stream: "Stream") -> str:
    """Say where the codebook of a stream comes from, if its tokenizer can be trained and has no weights."""
    from perceptio.training.codebook import to_be_trained

    where = f"streams.{stream.name}"
    if to_be_trained(stream):
        return (
            f"no weights: `train` trains it first, {number_of(stream.training.steps, 'step')} on data.folders, "
            f"unless {where}.tokenizer.weights names some"
        )
    untrained = stream.training.untrained and getattr(stream.tokenizer, "weights", None) is None
    return f"random values, as {where}.training.untrained asks" if untrained else ""
