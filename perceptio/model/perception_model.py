"""The user-facing model: build or load it, ask it questions, save and share it."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from perceptio.interfaces import GenerationSettings
from perceptio.model.assemble import assemble
from perceptio.model.checkpoints import checkpoint
from perceptio.model.checkpoints.hub import from_pretrained, push_to_hub, save_pretrained
from perceptio.model.inference.answer import Answer, ask_batch
from perceptio.model.network import PerceptionNetwork
from perceptio.recipe import Recipe
from perceptio.registry import Registry

if TYPE_CHECKING:
    from huggingface_hub import HfApi


class PerceptionModel(PerceptionNetwork):
    """A vision-language model that can perceive before it answers.

    Build it with `perceptio.build_model(recipe)`, or load it with `perceptio.load`. Example:

        model = perceptio.load("runs/demo/perceptio")
        answer = model.ask("photo.jpg", "Which point is closest to the camera?", points=[(0.2, 0.5), (0.7, 0.6)])
        print(answer.text)
    """

    def ask(
        self,
        image: Any,
        question: str,
        *,
        points: Sequence[tuple[float, float]] = (),
        perceive: Sequence[str] | None = None,
        settings: GenerationSettings | None = None,
    ) -> Answer:
        """Ask one question about an image.

        Asking does not change the model, not even its training mode, and several threads may ask at once.

        Args:
            image: A path, a PIL image, a uint8 numpy array [H, W, 3], or an RGB tensor [3, H, W] of uint8 or of
                floating-point values in [0, 1]. None: the question is about no image.
            question: Any text that is not empty.
            points: Marked points as (x, y) in [0, 1], x to the right and y down, named A, B, … in order.
            perceive: Write exactly these streams, by name, in this order; `()` for none. None: the model chooses
                among the streams of the recipe.
            settings: The generation settings. None: the defaults, with which the recipe decides about the read-out.

        Returns:
            The answer, with the decoded streams and all tokens that the model wrote.

        Raises:
            InputError: The image cannot be read, the question is empty, a point is outside the image, the model does
                not have a requested stream, a read-out is requested without marked points, or streams or points are
                given without an image.
            CheckpointError: The model computes values that are not finite.
        """
        return self.ask_batch([(image, question, points)], perceive=perceive, settings=settings)[0]

    def ask_batch(
        self,
        questions: Sequence[tuple[Any, str, Sequence[tuple[float, float]]]],
        *,
        perceive: Sequence[str] | None = None,
        settings: GenerationSettings | None = None,
    ) -> list[Answer]:
        """Ask several (image, question, points) at once; an image that several questions share is encoded once.

        See `ask` for the arguments and errors.
        """
        return ask_batch(self, questions, settings, perceive)

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        max_shard_size: int | str = "5GB",
        merge_adapters: bool = False,
        adapters_only: bool = False,
        results: Mapping[str, Any] | Path | str | None = None,
        license: str | None = None,
    ) -> None:
        """Write a checkpoint with a model card; it replaces a checkpoint that the folder holds.

        Args:
            folder: The folder to write. It is unchanged if anything fails.
            max_shard_size: The maximum size of a weight file; larger weights are split into several files.
            merge_adapters: Merge the language backbone's adapters into its weights first. This also changes the model
                itself.
            adapters_only: Leave out the frozen weights that parts read from the pretrained weights that they name.
            results: Metrics for the card, by data set, or the path of a `metrics.json` that `perceptio eval` wrote.
            license: The license on the card. None: "apache-2.0", or "other" if parts use pretrained weights.

        Raises:
            CheckpointError: The folder cannot be written, there are no adapters to merge, or there is nothing to
                leave out.
        """
        save_pretrained(
            self,
            folder,
            max_shard_size=max_shard_size,
            merge_adapters=merge_adapters,
            adapters_only=adapters_only,
            results=results,
            license=license,
        )

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        registry: Registry | None = None,
        weights: Mapping[str, str] | None = None,
    ) -> Self:
        """Load a model from a folder or a repository of the Hugging Face hub, in eval mode on the CPU.

        Args:
            name: A folder, or a hub id, whose files are downloaded once and cached.
            registry: The registry that resolves names of components. None: `Registry.discover()`.
            weights: The paths of pretrained weights on this machine, by part; see `perceptio.load`.

        Raises:
            CheckpointError: The model cannot be found, downloaded or built, or is not a whole model.
        """
        return from_pretrained(name, cls, registry=registry, weights=weights)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | None = None,
        api: "HfApi | None" = None,
        **saving: Any,
    ) -> str:
        """Upload a checkpoint with a model card to the Hugging Face hub.

        Args:
            repo_id: `owner/name`. The repository is created if it does not exist.
            private: Whether a new repository is private.
            token: An access token of the hub. None: that of the logged-in user.
            api: The client of the hub. None: `HfApi(token=token)`.
            saving: Arguments of `save_pretrained`.

        Returns:
            The URL of the commit.

        Raises:
            CheckpointError: The model cannot be saved in this way, or the hub cannot be reached or refuses.
        """
        return push_to_hub(self, repo_id, api=api, token=token, private=private, **saving)


def build_model(
    recipe: Recipe,
    *,
    load_weights: bool | Collection[str] = True,
    device: Literal["cpu", "meta"] = "cpu",
) -> PerceptionModel:
    """Build the model that a recipe describes.

    Args:
        recipe: The recipe; it is checked first.
        load_weights: Whether parts load the trained weights that they name, or the names of the parts that do, such
            as `("language",)`. All others start from random values, and so do the new vocabulary rows unless this is
            True.
        device: The device on which the model is built. On `"meta"` it has names, shapes and trainable parameters but
            no values, and no file is read: even the largest model takes only seconds.

    Returns:
        The model, in which exactly the parameters that `recipe.train.train` selects require gradients.

    Raises:
        RecipeError: The recipe is invalid; all problems are listed.
        UnknownNameError: The recipe names a parameter group that no part has.
        PluginError: A plugin's part cannot be built, or its weights cannot be loaded.
        InterfaceError: A part does not match its config.
    """
    return assemble(recipe, PerceptionModel, load_weights=load_weights, device=device)


def load(
    folder: str | Path, *, registry: Registry | None = None, weights: Mapping[str, str] | None = None
) -> Any:
    """Load a `PerceptionModel`, or a part such as a tokenizer, from a folder, in eval mode on the CPU.

    Args:
        folder: A checkpoint, or the folder of a run with a checkpoint in `checkpoint/`.
        registry: The registry that resolves names of components. None: `Registry.discover()`.
        weights: The paths of pretrained weights on this machine, by the part of the recipe that names them, such as
            `{"language": "/models/internvl"}`. A checkpoint of adapters reads them.

    Raises:
        CheckpointError: The folder holds no checkpoint; the checkpoint is truncated, of another kind or format, needs
            a plugin that is not installed, or holds values that are not finite; or the pretrained weights are not
            those on which its adapters were trained.
    """
    return checkpoint.load(folder, PerceptionModel, registry=registry, weights=weights)
