"""`perceptio eval --suite`: run a benchmark in one process, or in those that torchrun started."""

from collections.abc import Sequence
from pathlib import Path

from perceptio.cli.console import Bars, console, say
from perceptio.cli.devices import Device, chosen
from perceptio.cli.figures import figure_table
from perceptio.cli.files import open_folder
from perceptio.cli.models import model_in
from perceptio.cli.recipe import pairs


def evaluate_suite(
    name: str,
    folder: Path,
    data: Sequence[Path],
    out: Path | None,
    *,
    controls: str | None,
    settings: list[str] | None,
    limit: int | None,
    batch_size: int | None,
    device: Device,
) -> None:
    """Ask a model the questions of a suite, continuing an interrupted run, and show the figures.

    Args:
        name: The suite.
        folder: A run's folder or a checkpoint.
        data: Folders or files with the suite's data.
        out: Folder for answers and summary; None: `suites/NAME` in `folder`.
        controls: Must be None: suites have no controls.
        settings: Settings of the suite, as `KEY=VALUE`.
        limit: Use only the first images of each entry of `data`, up to this number.
        batch_size: Maximum number of questions in a batch.
        device: Where the model runs; with several processes on GPUs, each has its own.

    Raises:
        PerceptioError: An argument is invalid, or something cannot be read or written.
    """
    from perceptio.errors import DataError, InputError, PerceptioError
    from perceptio.evaluation.asking import BATCH_SIZE
    from perceptio.evaluation.suites import open_all, run_suite, suite_named
    from perceptio.ops.identity import hash_of_files
    from perceptio.ops.interrupts import Stopped
    from perceptio.ops.ranks import Ranks, leave_together
    from perceptio.registry import Registry
    from perceptio.serialize import fingerprint
    from perceptio.settings import with_component_settings

    kind = suite_named(name)
    changes = pairs("--set", settings, "max_new_tokens=16")
    suite = with_component_settings(kind(), changes, f"The suite {name}", Registry.discover())
    if controls is not None:
        raise InputError("Controls are asked of a data folder: leave out --suite, or --controls.")
    if not data:
        raise DataError(f"The suite {name} needs data: name them with --data.")
    out = out or folder / "suites" / name
    open_folder(out)
    model = model_in(folder, "eval")
    opened = open_all(suite, data, model)
    ranks = Ranks("eval", PerceptioError)
    where = chosen(device)
    model.to(where if ranks.count == 1 or where.type == "cpu" else ranks.accelerator.device)
    identity = ranks.on_main(
        lambda: {"recipe": fingerprint(model.recipe), "weights": hash_of_files(str(folder))}
    )
    shown = console()
    shown.quiet = not ranks.main  # Only the first of several processes prints.
    try:
        with Bars(shown, transient=True) as bar:
            summary = run_suite(
                model,
                suite,
                opened,
                out,
                identity=identity,
                ranks=ranks,
                limit=limit,
                batch_size=batch_size or BATCH_SIZE,
                progress=bar.counting(f"asking the questions of {name}"),
            )
    except Stopped:
        say(shown, f"Stopped. To go on, give the same command again: every answer so far is in {out}.")
        raise
    leave_together()
    for one, figures in summary["figures"].items():
        shown.print(figure_table(f"{name} of {one}", figures))
    say(shown, f"Written to {out / 'summary.json'}; every answer is in {out / 'answers.jsonl'}.")
