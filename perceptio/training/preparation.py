"""Preparation of a run before its first step: its state, its model, its codebooks and the codes of its data.

The first process writes the files for all processes.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import attrs
import numpy as np
import torch
from torch import Tensor

from perceptio.data.conversations import ConversationSampler, Levels
from perceptio.data.folder import FolderDataset
from perceptio.data.folder.identity import hash_of_data
from perceptio.data.image_pools import images_with_points
from perceptio.errors import CheckpointError, quoted
from perceptio.interfaces import Codes, PerceptionTokenizer
from perceptio.model.checkpoints.checkpoint import TEXT_TOKENIZER
from perceptio.model.checkpoints.pretrained import pretrained_weights
from perceptio.model.perception_model import PerceptionModel, build_model, load
from perceptio.ops.identity import ABSENT
from perceptio.ops.ranks import Ranks
from perceptio.recipe import Recipe, Stream
from perceptio.training.codebook import check_usage, to_be_trained, train_codebook, with_codebooks
from perceptio.training.codes import codes_in, read_codes, write_codes
from perceptio.training.identity import differences, run_identity, schedule_difference, used_schedule
from perceptio.training.listener import Listener
from perceptio.training.point_levels import levels_of_points
from perceptio.training.run_folder import RunFolder, RunState
from perceptio.training.start import Start


class Preparation:
    """Prepares one run, in one of its processes.

    Args:
        recipe: What to train, and on which data.
        folder: The run's folder.
        ranks: The processes of the run.
        listener: Callbacks for what is prepared.
        bf16: Whether the model computes in bfloat16.

    Attributes:
        datasets: The opened data folders.
        resuming: Whether the folder has a checkpoint to continue from.
        state: The state of the run.
        model: The model at that step, on its device.
        codes: Codes [n, L] of each folder's images, for each stream that is written as codes once per image.
        usage: Usage of the codebooks, as metrics.

    Raises:
        PerceptioError: See `train`.
    """

    def __init__(
        self, recipe: Recipe, folder: RunFolder, ranks: Ranks, listener: Listener, *, bf16: bool
    ) -> None:
        self.recipe, self.folder, self.ranks, self.listener = recipe, folder, ranks, listener
        self.datasets = [FolderDataset(one.path) for one in recipe.data.folders]
        self.resuming = ranks.on_main(folder.open)
        self._data = ranks.on_main(lambda: [hash_of_data(dataset) for dataset in self.datasets])
        self._trained = [stream for stream in recipe.streams if to_be_trained(stream)]
        self._identity = partial(
            run_identity,
            recipe,
            self._data,
            processes=ranks.count,
            bf16=bf16,
            trains=[stream.name for stream in self._trained],
        )
        start = RunState(
            step=0,
            steps=recipe.train.steps,
            identity=self._identity(),
            schedule=used_schedule(recipe.train),
            validation=self._measured(),
        )
        self.state = self._going_on(start) if self.resuming else start
        self.model = self._resumed() if self.resuming else self._built()
        ranks.on_main(
            lambda: folder.check_room(
                self.model, save_pretrained_weights=recipe.train.save_pretrained_weights
            )
        )
        self.model.to(ranks.accelerator.device)
        ranks.on_main(self._say_what_is_missing)
        self.codes = self.codes_of(self.datasets, "training")
        self.usage = self._codebook_usage()

    def _built(self) -> PerceptionModel:
        """Build the model for the first step, after training codebooks that need it."""
        recipe = self.recipe
        for name in recipe.unlearned:
            self._say(
                f"No loss is about the stream {name!r}: it is written, and nothing of it is learned; add one to "
                "losses."
            )
        start = None if recipe.start_from is None else Start(recipe.start_from)
        folders = {}
        for stream in self._trained:
            if start is None or not start.has_tokenizer(stream):
                folders[stream.name] = self.folder.tokenizers / stream.name
                self.ranks.on_main(partial(self._train_codebook, stream))
        torch.manual_seed(recipe.train.seed)
        model = build_model(with_codebooks(recipe, folders))
        model.recipe = self.recipe  # The checkpoint itself records where a tokenizer's weights come from.
        if start is not None:
            for sentence in start.give(model):
                self._say(sentence)
        return model

    def _train_codebook(self, stream: Stream) -> None:
        train_codebook(
            self.recipe,
            stream,
            self.folder.tokenizers / stream.name,
            self._data,
            device=self.ranks.accelerator.device,
            say=self.listener.say,
            preparing=self.listener.preparing,
        )

    def _resumed(self) -> PerceptionModel:
        """Load the model of the checkpoint, with the recipe's current settings."""
        model = load(self.folder.checkpoint, weights=pretrained_weights(self.recipe))
        if not isinstance(model, PerceptionModel):
            raise CheckpointError(f"{self.folder.checkpoint} holds no model; it cannot be resumed.")
        language = self.recipe.language.with_text_tokenizer(self.folder.checkpoint / TEXT_TOKENIZER)
        model.recipe = attrs.evolve(self.recipe, language=language)
        self._say(f"Resuming at step {self.state.step} of {self.recipe.train.steps}.")
        return model

    def _going_on(self, start: RunState) -> RunState:
        """Return the state to continue from, if the checkpoint belongs to this run.

        Raises:
            CheckpointError: It belongs to another run, or was trained with another schedule; the message says what
                differs.
        """
        state = self.folder.state()
        # A resumed run no longer needs the weights it started from.
        if start.identity.get("start_from") == ABSENT:
            start = attrs.evolve(
                start, identity={**start.identity, "start_from": state.identity.get("start_from")}
            )
        at_default = start.identity.keys() - self._identity(defaults=False).keys()
        differing = differences(state.identity, start.identity, at_default=at_default)
        schedule = schedule_difference(state.schedule, self.recipe.train, state.step)
        differing += [] if schedule is None else [schedule]
        if differing:
            raise CheckpointError(
                f"{self.folder.checkpoint} was trained otherwise and cannot be resumed so: {'; '.join(differing)}. "
                "Set these as they were, or choose another --out."
            )
        comparable = state.validation == start.validation
        return attrs.evolve(start, step=state.step, best=state.best if comparable else None)

    def _measured(self) -> dict[str, object] | None:
        """Return what validation figures depend on besides the model; only figures with equal ones are comparable."""
        folders, settings = self.recipe.data.validation, self.recipe.train.validation
        if not folders:
            return None
        data = self.ranks.on_main(lambda: [hash_of_data(FolderDataset(path)) for path in folders])
        return {"data": data, "samples": settings.samples, "figure": settings.best, "goal": settings.goal}

    def _say_what_is_missing(self) -> None:
        """Report, folder by folder, samples from which a stream that is written once per image cannot be learned."""
        targets = {
            stream.name: stream.spec.target
            for stream in self.recipe.streams
            if stream.spec.per == "image" and stream.spec.target != "image"
        }
        if self.recipe.data.perceive == "never" or not targets:
            return
        for dataset in self.datasets:
            pictured = dataset.with_target("image")
            for name, target in targets.items():
                lacking = np.setdiff1d(pictured, dataset.with_target(target), assume_unique=True)
                if len(lacking):
                    self._say(
                        f"{len(lacking)} of {len(dataset)} samples of {dataset.name} lack the target {target!r} of "
                        f"the stream {name!r}, such as {quoted(dataset.records[lacking[0]].id)}: it is not learned "
                        "from them."
                    )

    def codes_of(self, datasets: Sequence[FolderDataset], what: str) -> dict[str, list[Tensor]]:
        """Return the codes of folders' images; codes that a folder lacks are computed and kept in the run's folder.

        Args:
            datasets: The folders.
            what: The purpose, which is part of the file name of computed codes, such as `"training"`.

        Returns:
            For each stream that is written as codes once per image, the codes of each folder as `read_codes` returns
            them.
        """
        return {
            stream.name: [
                self._codes_of(stream, dataset, self.folder.codes / stream.name / f"{what}-{number}")
                for number, dataset in enumerate(datasets)
            ]
            for stream in self.recipe.streams
            if isinstance(stream.spec.written, Codes) and stream.spec.per == "image"
        }

    def sampler(
        self, recipe: Recipe, datasets: Sequence[FolderDataset], codes: Mapping[str, Sequence[Tensor]]
    ) -> ConversationSampler:
        """Return a sampler of conversations, with levels of marked points if the recipe uses point values.

        Args:
            recipe: The recipe whose data settings apply.
            datasets: The folders.
            codes: The codes of their images, from `codes_of`.
        """
        levels: list[Levels] = []
        if recipe.point_values is not None and self.model.plan.readout is not None:
            tokenizer: PerceptionTokenizer = self.model.stream(self.model.plan.readout).tokenizer
            levels = [
                levels_of_points(tokenizer, dataset, images.tolist(), codes_nL, recipe.point_values.levels)
                for dataset, images, codes_nL in zip(
                    datasets,
                    images_with_points(recipe, datasets),
                    codes[self.model.plan.readout],
                    strict=True,
                )
            ]
        return ConversationSampler(recipe, datasets, codes, levels)

    def _codes_of(self, stream: Stream, dataset: FolderDataset, kept: Path) -> Tensor:
        tokenizer: PerceptionTokenizer = self.model.stream(stream.name).tokenizer
        found: list[Tensor] = []

        def find_or_write() -> Path:
            for path in (codes_in(dataset.root, stream.name), kept):
                codes_nL = read_codes(path, dataset, tokenizer, self.listener.say)
                if codes_nL is not None:
                    found.append(codes_nL)
                    return path
            write_codes(
                dataset,
                tokenizer,
                kept,
                lambda done, total: self.listener.preparing(
                    f"codes of {stream.name} in {dataset.name}", done, total
                ),
            )
            return kept

        path = self.ranks.on_main(find_or_write)
        codes_nL = found[0] if found else read_codes(path, dataset, tokenizer)
        assert codes_nL is not None
        return codes_nL

    def _codebook_usage(self) -> dict[str, float]:
        usage: dict[str, float] = {}
        for name, codes in self.codes.items():
            stream = self.recipe.stream(name)
            used = check_usage(stream, codes)
            if used:
                size = sum(self.model.stream(name).tokenizer.spec.stream.written.codebook_sizes)
                self._say(
                    f"The training data use {used[f'{name}_codes.used']} of {size} codes of {name} "
                    f"(perplexity {used[f'{name}_codes.perplexity']:.1f})."
                )
            usage |= used
        return usage

    def _say(self, sentence: str) -> None:
        if self.ranks.main:
            self.listener.say(sentence)
