"""Loading the model that a verb was given."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perceptio.model.perception_model import PerceptionModel


def model_in(folder: Path, verb: str) -> "PerceptionModel":
    """Load the model in a folder, with its weights.

    Args:
        folder: A run's folder or a checkpoint.
        verb: The verb that needs the model, for the message.

    Raises:
        InputError: The folder holds a component, such as a tokenizer.
        CheckpointError: The folder holds neither a model nor a component, or cannot be read.
    """
    from perceptio.errors import InputError
    from perceptio.model.perception_model import PerceptionModel, load

    model = load(folder)
    if not isinstance(model, PerceptionModel):
        raise InputError(f"{folder} holds no model but a part, {type(model).__name__}; {verb} needs a model.")
    return model
