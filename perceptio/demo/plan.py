"""The demo as a graph of jobs."""

from perceptio.demo.settings import PERCEPTIO, STREAMS, DemoSettings
from perceptio.experiments.job import Job
from perceptio.experiments.plan import with_training
from perceptio.recipe import Recipe
from perceptio.serialize import to_json
from perceptio.settings import load_recipe

WORK = "perceptio.demo.work"
RECIPES = {
    "perceptio": "perceptio_lookup.py",
    "readout_without_block": "ablations/readout_without_block.py",
    "lookup_from_vision": "ablations/lookup_from_vision.py",
    "direct": "ablations/direct.py",
    "streams": "perceptio_streams.py",
}
DEPTH_TOKENIZERS = {"vqvae": "perceptio_tiny.py", "fsq": "fsq_depth.py"}
"""The depth tokenizers to compare, and the recipe that has each; arms use that of their own recipe."""
GALLERY = 12
"""Number of test scenes in the report, from the first on."""


def plan_jobs(settings: DemoSettings) -> tuple[Job, ...]:
    """Return every job of a demo, in the order in which they start as cores become free.

    An arm is evaluated as soon as it is trained, while others are still training.
    """
    root = settings.out
    counts = {"train": settings.scenes, "validation": settings.held_out, "test": settings.held_out}
    workers = min(settings.cores, 2)
    scenes = Job(
        name="scenes",
        stage="scenes",
        work=f"{WORK}:make_scenes",
        out=root / "scenes",
        settings={"base": settings.seed, "counts": counts},
        cores=workers,
    )
    depth_tokenizers = {
        name: Job(
            name=name,
            stage="depth_tokenizer",
            work=f"{WORK}:make_depth_tokenizer",
            out=root / "depth_tokenizers" / name,
            settings={"recipe": to_json(_seeded(load_recipe(recipe), settings))},
            after=(scenes,),
        )
        for name, recipe in DEPTH_TOKENIZERS.items()
    }
    arms, evaluations = [], []
    # The longest job starts first, and the others run beside it.
    for name in sorted(settings.arms, key=lambda arm: arm != STREAMS):
        recipe = _seeded(load_recipe(RECIPES[name]), settings)
        arm = Job(
            name=name,
            stage=name,
            work=f"{WORK}:train_arm",
            out=root / name,
            settings={"recipe": to_json(recipe)},
            after=(scenes, *(depth_tokenizers[name] for name in trained_tokenizers(recipe).values())),
            cores=_cores_of_an_arm(len(settings.arms), settings.cores),
        )
        arms.append(arm)
        evaluations.append(
            Job(
                name=f"evaluation_{name}",
                stage="evaluation",
                work=f"{WORK}:evaluate_arm",
                out=root / "evaluation" / name,
                settings={
                    "gallery": min(GALLERY, settings.held_out),
                    "control": name not in (PERCEPTIO, STREAMS),
                },
                after=(arm, scenes),
            )
        )
    return (scenes, *depth_tokenizers.values(), *arms, *evaluations)


def _cores_of_an_arm(arms: int, cores: int) -> float:
    """Return the cores per arm: if one arm would otherwise run alone beside idle cores, all arms share the cores."""
    return cores / (cores + 1) if cores > 1 and arms % cores == 1 else 1


def _seeded(recipe: Recipe, settings: DemoSettings) -> Recipe:
    """Return the recipe with the demo's seed, and its number of steps if given."""
    given = {} if settings.steps is None else {"steps": settings.steps}
    return with_training(recipe, seed=settings.seed, **given)


def trained_tokenizers(recipe: Recipe) -> dict[str, str]:
    """Return the streams of a recipe whose tokenizers are trained in separate jobs, with each tokenizer's name."""
    return {
        stream.name: stream.tokenizer.name
        for stream in recipe.streams
        if stream.tokenizer.name in DEPTH_TOKENIZERS
    }
