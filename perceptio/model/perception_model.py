"""The model that users hold: built or loaded, it answers questions and is saved and shared."""

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
    """A vision-language model that can perceive before it answers, put together from its parts.

    Build it with `perceptio.build_model(recipe)`. Example:

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

        Asking leaves the model as it is, in training mode too, and several threads may ask at once.

        Args:
            image: A path, a PIL image, a numpy array [H, W, 3] of uint8, or a tensor RGB [3, H, W] of
                uint8 or of floating-point numbers in [0, 1]. None: the question is about no image.
            question: Any text.
            points: Marked points as (x, y) in [0, 1], x to the right and y down; lettered A, B, … in order.
            perceive: Write just these streams, by name, in this order; `()`: none. None: what the recipe lists, as
                the model then decides.
            settings: How to perceive and decode; None: as the recipe says.

        Returns:
            The answer with what its streams decode to, and the tokens that were written on the way to it.

        Raises:
            InputError: The image cannot be read, the question is empty, a point is outside, a stream is asked for
                that the model has not, or a read-out is asked for and no point is marked; or a stream or a point is
                given without an image.
            CheckpointError: The model computes no finite numbers.
        """
        return self.ask_batch([(image, question, points)], perceive=perceive, settings=settings)[0]

    def ask_batch(
        self,
        questions: Sequence[tuple[Any, str, Sequence[tuple[float, float]]]],
        *,
        perceive: Sequence[str] | None = None,
        settings: GenerationSettings | None = None,
    ) -> list[Answer]:
        """Ask several (image, question, points) at once; an image that several share is encoded once."""
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
        """Write a checkpoint with a model card, in place of the checkpoint that the folder held.

        Args:
            folder: Where; it is untouched when anything fails.
            max_shard_size: Above which weights are written into several files.
            merge_adapters: Fold the language backbone's adapters into its weights first. This model, too, has none
                afterwards.
            adapters_only: Leave out what parts read from the pretrained weights they name and do not train.
            results: Figures for the card, by data set, or the `metrics.json` that `perceptio eval` wrote.
            license: For the card; None: "apache-2.0", or "other" where parts come from pretrained weights.

        Raises:
            CheckpointError: The folder cannot be written, or there are no adapters to merge or nothing to leave out.
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
        """The model in a folder or a repository of the Hugging Face hub, in eval mode on the CPU.

        Args:
            name: A folder, or a hub id, whose files are fetched once and kept.
            registry: Where component names are looked up; None: all that `Registry.discover` finds.
            weights: Where pretrained weights lie on this machine, by part; see `perceptio.load`.

        Raises:
            CheckpointError: It cannot be found, fetched or built, or is no whole model.
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
            repo_id: `owner/name`; it is created where there is none.
            private: Whether a new repository is hidden from others.
            token: Who writes; None: who is logged in.
            api: How the hub is reached; None: `HfApi(token=token)`.
            saving: Settings of `save_pretrained`.

        Returns:
            The address of the commit.

        Raises:
            CheckpointError: The model cannot be saved so, or the hub cannot be reached or refuses.
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
        load_weights: Whether parts read the trained weights they name, or which of them, such as `("language",)`.
            The others start from random values, and so do the new vocabulary rows unless this is True.
        device: Where the model is built. `"meta"` gives names, shapes and what trains, of the largest model in
            seconds: no file is read, and there are no values.

    Returns:
        The model, with the parameters that `recipe.train.train` names requiring gradients.

    Raises:
        RecipeError: Something is wrong with the recipe: everything is listed.
        UnknownNameError: A parameter group is named that no part has.
        PluginError: A plugin's part cannot be built or filled.
        InterfaceError: A part is something else than its config says.
    """
    return assemble(recipe, PerceptionModel, load_weights=load_weights, device=device)


def load(
    folder: str | Path, *, registry: Registry | None = None, weights: Mapping[str, str] | None = None
) -> Any:
    """What a folder holds: a `PerceptionModel`, or a part such as a tokenizer, in eval mode on the CPU.

    Args:
        folder: A checkpoint, or a run's folder with one in `checkpoint/`.
        registry: Where component names are looked up; None: all that `Registry.discover` finds.
        weights: Where pretrained weights lie on this machine, by the part of the recipe that names them, such as
            `{"language": "/models/internvl"}`; a checkpoint of adapters reads them.

    Raises:
        CheckpointError: There is no checkpoint; or it is truncated, foreign, of another format, or needs a plugin
            that is not installed; or it holds values that are not finite; or the pretrained weights are not those its
            adapters were trained on.
    """
    return checkpoint.load(folder, PerceptionModel, registry=registry, weights=weights)
