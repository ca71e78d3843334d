"""Facts about a model, in a few words or numbers, for `perceptio explain`."""

from typing import TYPE_CHECKING

from perceptio.ops.wording import number_of

if TYPE_CHECKING:
    from torch import nn

    from perceptio.interfaces import StreamTokens
    from perceptio.recipe import Recipe, Stream
    from perceptio.training.foretold import Foretold

PHOTO = (480, 640)
"""Height and width of a typical photo: encoders that tile give larger images more tokens."""


def counted(module: "nn.Module") -> tuple[int, int]:
    """Return the number of parameters of a part of a model, and how many of them are trained."""
    held = list(module.parameters())
    return sum(p.numel() for p in held), sum(p.numel() for p in held if p.requires_grad)


def tokens_per_image(recipe: "Recipe") -> str:
    """Say how many tokens an image takes: at the encoder's own size, and at the size of a typical photo."""
    counts = {size: recipe.vision.num_features(*size) for size in (recipe.vision.spec.image_size, PHOTO)}
    said = [f"{count:,} for {height}x{width} pixels" for (height, width), count in counts.items()]
    return said[0].partition(" for")[0] if len(set(counts.values())) == 1 else ", ".join(said)


def step_in_words(step: "Foretold") -> str:
    """Describe what makes up the peak memory of a step."""
    from perceptio.training.foretold import BATCHES
    from perceptio.training.memory import GIB

    tensors = f"tensors {step.peak / GIB:.2f}"
    if step.libraries:
        tensors += f", Python and libraries {step.libraries / GIB:.2f}"
    lengths = ", ".join(f"{length:,}" for length in step.lengths) or "no"
    sizes = ", ".join(dict.fromkeys(f"{height}x{width}" for height, width in step.images)) or "no"
    return (
        f"{tensors}; a step on {step.device.type} in {'bfloat16' if step.bf16 else 'float32'} of the longest of the "
        f"first {BATCHES} batches: conversations of {lengths} tokens, pictures of {sizes} pixels"
    )


def written(stream: "Stream", tokens: "StreamTokens") -> str:
    """Describe how a stream is written, and what its values mean if that is known."""
    from perceptio.interfaces import TokenBlock
    from perceptio.vocabulary import steps_in_words

    if isinstance(tokens, TokenBlock):
        sizes = " and ".join(str(span.size) for span in tokens.codebooks)
        codes = f"{number_of(tokens.length, 'code')} of {sizes}, {steps_in_words(tokens)}"
        said = f"{tokens.length + 2} tokens an {tokens.per}: {codes}"
    else:
        said = f"{number_of(len(tokens.ids), 'special token')} an {tokens.per}"
        said += ", read at the token before" if stream.read_at == "previous_token" else ""
        said += ", fed back" if stream.feedback is not None else ""
    convention = getattr(stream.tokenizer.spec, "convention", None)
    if convention is None:
        return said
    near, far = convention.near_m, convention.far_m
    return f"{said}; {f'{near:g} to {far:g} m' if convention.metric else 'relative, near is one'}"


def answers(recipe: "Recipe") -> str:
    """Describe the answer format, and what is written about marked points before an answer."""
    values, stream = recipe.point_values, recipe.plan.readout
    if recipe.answer_format == "direct":
        return recipe.answer_format
    if values is None:
        return f"{recipe.answer_format}: the code of {stream} at each marked point, written by the model"
    if recipe.answer_format == "readout":
        return f"readout: {stream} at each marked point in {values.levels} levels, written by the model"
    source = "the map that it wrote" if values.source == "written" else "a map from the vision features"
    return (
        f"lookup: {stream} at each marked point in {values.levels} levels, given to the model from {source} "
        f"({values.decoding} decoding; trained with {values.trained_with.replace('_', ' ')})"
    )
