"""What a run needs before its first step: where it stands, its model, its depth codebook and the codes of its data.

What is written is made by the first process for all of them.
"""

from collections.abc import Sequence
from pathlib import Path

import attrs
import torch
from torch import Tensor

from perceptio.data.folder import FolderDataset
from perceptio.data.identity import hash_of_data
from perceptio.errors import CheckpointError
from perceptio.interfaces import DepthTokenizer
from perceptio.model.checkpoints.checkpoint import TEXT_TOKENIZER
from perceptio.model.checkpoints.pretrained import pretrained_weights
from perceptio.model.perception_model import PerceptionModel, build_model, load
from perceptio.recipe import Recipe
from perceptio.training.codebook import check_usage, to_be_trained, train_codebook, with_codebook
from perceptio.training.identity import differences, run_identity, schedule_difference, used_schedule
from perceptio.training.listener import Listener
from perceptio.training.ranks import Ranks
from perceptio.training.run_folder import RunFolder, RunState
from perceptio.training.targets import read_codes, write_codes


class Preparation:
    """Prepares one run, in one of its processes.

    Args:
        recipe: What to train, and on what.
        folder: The run's folder.
        ranks: The processes of the run.
        listener: Who is told what is prepared.
        bf16: Whether the model computes in bfloat16.

    Attributes:
        datasets: The opened data folders.
        resuming: Whether the folder has a checkpoint to go on from.
        state: Where the run stands.
        model: The model at that step, on its device.
        codes: Depth codes [n, L] of each folder's images; None without depth.
        usage: How they use the codebook, as metrics.

    Raises:
        PerceptioError: As `train` does.
    """

    def __init__(
        self, recipe: Recipe, folder: RunFolder, ranks: Ranks, listener: Listener, *, bf16: bool
    ) -> None:
        self.recipe, self.folder, self.ranks, self.listener = recipe, folder, ranks, listener
        self.datasets = [FolderDataset(one.path) for one in recipe.data.folders]
        self.resuming = ranks.on_main(folder.open)
        self._data = ranks.on_main(lambda: [hash_of_data(dataset) for dataset in self.datasets])
        self._trains_depth = to_be_trained(recipe)
        start = RunState(
            step=0,
            steps=recipe.train.steps,
            identity=run_identity(
                recipe, self._data, processes=ranks.count, bf16=bf16, trains_depth=self._trains_depth
            ),
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
        self.codes = self.depth_codes(self.datasets, "training")
        self.usage = self._codebook_usage()

    def _built(self) -> PerceptionModel:
        """The model at its start; a depth tokenizer that has not learned is trained before."""
        recipe = self.recipe
        if self._trains_depth:
            self.ranks.on_main(
                lambda: train_codebook(
                    self.recipe,
                    self.folder.depth_tokenizer,
                    self._data,
                    device=self.ranks.accelerator.device,
                    say=self.listener.say,
                    preparing=self.listener.preparing,
                )
            )
            recipe = with_codebook(recipe, self.folder.depth_tokenizer)
        torch.manual_seed(recipe.train.seed)
        model = build_model(recipe)
        model.recipe = self.recipe  # Whose weights the depth tokenizer has is known by the checkpoint.
        return model

    def _resumed(self) -> PerceptionModel:
        """The model of the checkpoint, which goes on as the recipe says now."""
        model = load(self.folder.checkpoint, weights=pretrained_weights(self.recipe))
        if not isinstance(model, PerceptionModel):
            raise CheckpointError(f"{self.folder.checkpoint} holds no model; it cannot be resumed.")
        language = self.recipe.language.with_text_tokenizer(self.folder.checkpoint / TEXT_TOKENIZER)
        model.recipe = attrs.evolve(self.recipe, language=language)
        self._say(f"Resuming at step {self.state.step} of {self.recipe.train.steps}.")
        return model

    def _going_on(self, start: RunState) -> RunState:
        """Where the checkpoint's run stands, if it is this one.

        Raises:
            CheckpointError: It is another, or has gone another way; the message says what differs.
        """
        state = self.folder.state()
        differing = differences(state.identity, start.identity)
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
        """What a value on the validation data depends on beside the model; values of another are not compared."""
        folders, settings = self.recipe.data.validation, self.recipe.train.validation
        if not folders:
            return None
        data = self.ranks.on_main(lambda: [hash_of_data(FolderDataset(path)) for path in folders])
        return {"data": data, "samples": settings.samples, "figure": settings.best, "goal": settings.goal}

    def depth_codes(self, datasets: Sequence[FolderDataset], what: str) -> list[Tensor] | None:
        """The codes of folders' images; what the folders do not hold is computed, and kept in the run's folder.

        Args:
            datasets: The folders.
            what: What they are for, which is where their codes are kept.
        """
        tokenizer = self.model.depth
        if tokenizer is None:
            return None
        return [
            self._codes_of(tokenizer, dataset, self.folder.depth_codes / f"{what}-{number}")
            for number, dataset in enumerate(datasets)
        ]

    def _codes_of(self, tokenizer: DepthTokenizer, dataset: FolderDataset, kept: Path) -> Tensor:
        def write() -> Path:
            for folder in (dataset.root, kept):
                if read_codes(folder, dataset, tokenizer) is not None:
                    return folder
            write_codes(
                dataset.root,
                tokenizer,
                lambda done, total: self.listener.preparing(f"depth codes of {dataset.root}", done, total),
                into=kept,
            )
            return kept

        codes_nL = read_codes(self.ranks.on_main(write), dataset, tokenizer)
        assert codes_nL is not None
        return codes_nL

    def _codebook_usage(self) -> dict[str, float]:
        if self.codes is None or self.model.depth is None:
            return {}
        size = self.model.depth.spec.codebook_size
        usage = check_usage(self.codes, size, untrained=self.recipe.depth_training.untrained)
        if usage:
            self._say(
                f"The training maps use {usage['depth_codes.used']} of {size} depth codes "
                f"(perplexity {usage['depth_codes.perplexity']:.1f})."
            )
        return usage

    def _say(self, sentence: str) -> None:
        if self.ranks.main:
            self.listener.say(sentence)
