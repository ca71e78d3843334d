"""The plan of an experiment: its cells, what identifies each, and the jobs that make them, in order."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs

from perceptio.data.folder import FolderDataset
from perceptio.data.folder.identity import hash_of_data
from perceptio.errors import DataError, InputError, RecipeError
from perceptio.evaluation.replacements import Control
from perceptio.experiments.cell_summary import summary_name
from perceptio.experiments.experiment import Experiment
from perceptio.experiments.job import Job
from perceptio.experiments.results import CELLS, EVALUATIONS, TOKENIZERS, PlacedCell
from perceptio.ops.files import path_text
from perceptio.recipe import Recipe, Stream
from perceptio.serialize import identity_of, to_json
from perceptio.training.codebook import to_be_trained
from perceptio.training.identity import run_identity, settings_by_path, used_schedule
from perceptio.training.start import Start

WORK = "perceptio.experiments.work"


@attrs.frozen(kw_only=True, eq=False)
class Cell:
    """A variant's recipe and a seed, with the jobs that train and evaluate it.

    Attributes:
        variant: The name of the variant.
        seed: The seed.
        tokenizers: The jobs that train its tokenizers of codes, if these name no weights.
        training: The job that trains it.
        evaluation: The job that evaluates it.
        controls: The controls of the evaluation.
        summary: The name of its summary.
    """

    variant: str
    seed: int
    tokenizers: tuple[Job, ...]
    training: Job
    evaluation: Job
    controls: tuple[str, ...] = ()
    summary: str = ""

    @property
    def jobs(self) -> tuple[Job, ...]:
        """All of its jobs, in order."""
        return (*self.tokenizers, self.training, self.evaluation)

    @property
    def placed(self) -> PlacedCell:
        """Its entry in `experiment.json`."""
        return PlacedCell(
            variant=self.variant,
            seed=self.seed,
            fingerprint=self.training.fingerprint,
            evaluation=self.evaluation.fingerprint,
            tokenizers=tuple(job.fingerprint for job in self.tokenizers),
            controls=self.controls,
            summary=self.summary,
        )


class Planner:
    """Makes the cells of an experiment.

    Args:
        experiment: The experiment.
        data: The folders to evaluate cells on; empty: the validation data of the recipes, which must be the same for
            all.
        controls: The controls of the evaluation.
        root: The cache that stores the cells.

    Attributes:
        trained_on: A hash of the content of each folder that the cells so far are trained on.

    Raises:
        DataError: There is nothing to evaluate on, or a data folder cannot be read.
        RecipeError: A recipe is invalid.
    """

    def __init__(
        self, experiment: Experiment, *, data: Sequence[Path], controls: Sequence[Control], root: Path
    ) -> None:
        self.experiment, self.root, self.controls = experiment, root, controls
        self.trained_on: set[str] = set()
        self._hashes: dict[str, str] = {}
        self._recipes: dict[str, Recipe] = {}
        self._starts: dict[str, Start] = {}
        self._given = tuple(path_text(folder) for folder in data)

    @cached_property
    def data(self) -> Mapping[str, str]:
        """The folders to evaluate cells on, and a hash of the content of each.

        Raises:
            DataError: The recipes name no folders, or different ones.
        """
        if self._given:
            return {path: self._hash(path) for path in self._given}
        named = {variant: self._recipe(variant).data.validation for variant in self.experiment.variants}
        paths = named[self.experiment.baseline]
        lacking = [variant for variant, own in named.items() if not own]
        if lacking:
            raise DataError(
                f"There is nothing to evaluate on: the recipe of {lacking[0]!r} names no data.validation. Name a "
                "folder of questions with --data, or set data.validation in the recipes."
            )
        hashes = {path: self._hash(path) for path in paths}
        other = [v for v, own in named.items() if [self._hash(one) for one in own] != list(hashes.values())]
        if other:
            raise DataError(
                f"{other[0]!r} has other validation data than the baseline {self.experiment.baseline!r}, so that "
                "their answers cannot be compared: name what all are evaluated on with --data."
            )
        return hashes

    def cells(self, seeds: Sequence[int]) -> tuple[Cell, ...]:
        """Return every cell, ordered by variant and then by seed.

        Args:
            seeds: Seeds for initial weights, the order of training, and the training of tokenizers.
        """
        return tuple(self.cell(variant, seed) for variant in self.experiment.variants for seed in seeds)

    def cell(self, variant: str, seed: int) -> Cell:
        """Return a cell with its jobs."""
        recipe = with_training(self._recipe(variant), seed=seed)
        title = f"{variant}, seed {seed}"
        training = self._training(recipe, title)
        evaluation = self._evaluation(training, title)
        return Cell(
            variant=variant,
            seed=seed,
            tokenizers=training.after,
            training=training,
            evaluation=evaluation,
            controls=tuple(sorted(self.controls)),
            summary=summary_name(training.fingerprint, list(self.data.values())),
        )

    def _training(self, recipe: Recipe, title: str) -> Job:
        """Return the job that trains a recipe, after those that train its tokenizers."""
        trained = self._trained(recipe)
        content = [self._hash(folder.path) for folder in recipe.data.folders]
        self.trained_on.update(content)
        tokenizers = {stream.name: self._tokenizer(recipe, stream, content) for stream in trained}

        def identity(*, defaults: bool) -> dict[str, Any]:
            own = run_identity(
                recipe,
                content,
                processes=1,
                bf16=False,
                trains=[stream.name for stream in trained],
                defaults=defaults,
            )
            schedule = used_schedule(recipe.train, defaults=defaults)
            # As written in the recipe: the resolution of "auto" depends on the machine that trains.
            return own | {"precision": recipe.train.precision, "schedule": schedule}

        return self._placed(
            CELLS,
            Job(
                name="cell",
                title=title,
                stage="training",
                work=f"{WORK}:train_cell",
                out=self.root,
                settings={
                    "recipe": to_json(recipe),
                    "tokenizers": {name: job.name for name, job in tokenizers.items()},
                },
                **_identity(identity),
                after=tuple({job.name: job for job in tokenizers.values()}.values()),
            ),
        )

    def _evaluation(self, training: Job, title: str) -> Job:
        """Return the job that evaluates what another job has trained."""
        return self._placed(
            EVALUATIONS,
            Job(
                name="evaluation",
                title=f"{title}: evaluation",
                stage="evaluation",
                work=f"{WORK}:evaluate_cell",
                out=self.root,
                settings={"data": list(self.data), "controls": list(self.controls), "cell": training.name},
                identity={"data": list(self.data.values()), "controls": sorted(self.controls)},
                after=(training,),
            ),
        )

    def _tokenizer(self, recipe: Recipe, stream: Stream, content: Sequence[str]) -> Job:
        """Return the job that trains the tokenizer of a stream; equal jobs of several cells have the same name."""

        def identity(*, defaults: bool) -> dict[str, Any]:
            return {
                "tokenizer": identity_of(stream.tokenizer, defaults=defaults),
                "training": identity_of(stream.training, defaults=defaults),
                "data": [
                    [folder.weight, one] for folder, one in zip(recipe.data.folders, content, strict=True)
                ],
            }

        job = self._placed(
            TOKENIZERS,
            Job(
                name="tokenizer",
                stage="tokenizer",
                work=f"{WORK}:train_tokenizer",
                out=self.root,
                settings={"recipe": to_json(recipe), "stream": stream.name},
                **_identity(identity),
            ),
        )
        named = f"tokenizer {stream.tokenizer.name} {job.fingerprint[:6]}, seed {stream.training.seed}"
        return attrs.evolve(job, title=named)

    def _placed(self, kind: str, job: Job) -> Job:
        """Return the job with a name and a folder derived from its fingerprint."""
        own = job.fingerprint
        return attrs.evolve(job, name=f"{job.name}_{own}", out=self.root / kind / own)

    def _trained(self, recipe: Recipe) -> list[Stream]:
        """Return the streams whose tokenizers must be trained first, as `train` would do by itself."""
        streams = [stream for stream in recipe.streams if to_be_trained(stream)]
        if recipe.start_from is None or not streams:
            return streams
        start = self._starts.setdefault(recipe.start_from, Start(recipe.start_from))
        return [stream for stream in streams if not start.has_tokenizer(stream)]

    def _recipe(self, variant: str) -> Recipe:
        if variant not in self._recipes:
            recipe = self.experiment.recipe(variant)
            if not recipe.data.folders:
                raise RecipeError(f"The variant {variant!r} names no data to train on; set data.folders.")
            self._recipes[variant] = recipe
        return self._recipes[variant]

    def _hash(self, path: str) -> str:
        if path not in self._hashes:
            self._hashes[path] = hash_of_data(FolderDataset(path))
        return self._hashes[path]


def _identity(made: Callable[..., Mapping[str, Any]]) -> dict[str, Any]:
    """Return the `identity` and `defaults` of a job, from a function that returns its identity with or without them.

    Lists are compared as a whole.
    """
    identity = made(defaults=False)
    told = {path for path, _ in settings_by_path(identity)}
    defaults: dict[str, Any] = {}
    for path, value in settings_by_path(made(defaults=True)):
        stem, _, last = path.rpartition(".")
        if path not in told and last.isdecimal():
            defaults.setdefault(stem, []).append(value)
        elif path not in told:
            defaults[path] = value
    return {"identity": identity, "defaults": defaults}


def check_seeds(seeds: Sequence[int]) -> None:
    """Check that there are seeds, that they are valid, and that none is repeated.

    Raises:
        InputError: The check fails.
    """
    if not seeds:
        raise InputError("There is no seed: give one or more, such as --seeds 0 1 2.")
    for seed in seeds:
        if not 0 <= seed < 2**32:
            raise InputError(f"The seed {seed} cannot be used: it must be at least 0 and below 2**32.")
        if seeds.count(seed) > 1:
            raise InputError(f"The seed {seed} is given twice: a cell is run once, so leave one out.")


def with_training(recipe: Recipe, **settings: Any) -> Recipe:
    """Return the recipe with settings such as `seed` changed, both in its training and in that of its tokenizers."""
    streams = tuple(
        attrs.evolve(stream, training=attrs.evolve(stream.training, **settings)) for stream in recipe.streams
    )
    return attrs.evolve(recipe, train=attrs.evolve(recipe.train, **settings), streams=streams)
