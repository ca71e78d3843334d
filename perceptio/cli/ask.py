"""`perceptio ask`: one question about one image, and what was perceived on the way to the answer."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perceptio.cli.console import console, say
from perceptio.cli.devices import Device, DeviceOption, chosen
from perceptio.cli.files import open_folder, path, writing

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from perceptio.interfaces import DepthMap
    from perceptio.model.inference.answer import Answer
    from perceptio.interfaces import GenerationSettings

COLORS = ((230, 57, 70), (69, 123, 214), (42, 157, 143), (244, 162, 37), (155, 93, 229))


def run(
    folder: Annotated[
        Path, typer.Argument(parser=path, metavar="DIR", help="A run's folder or a checkpoint.")
    ],
    image: Annotated[Path, typer.Argument(parser=path, help="A picture: PNG, JPEG, …")],
    question: Annotated[str, typer.Argument(help="Any text.")],
    point: Annotated[
        list[str] | None,
        typer.Option(
            metavar="X,Y", help="A marked point in [0, 1] from the upper left; repeated: A, B, C, …"
        ),
    ] = None,
    perceive: Annotated[
        str | None,
        typer.Option(
            metavar="PARTS",
            help="Perceive just these, in this order: depth, segmentation, both with a comma, or none.",
            show_default="what the recipe orders and the model then decides",
        ),
    ] = None,
    max_new_tokens: Annotated[
        int, typer.Option(min=1, help="Most tokens of the answer's text, which is cut there.")
    ] = 32,
    device: DeviceOption = Device.AUTO,
    out: Annotated[
        Path | None,
        typer.Option(
            parser=path,
            help="Write answer.json, masks.png (the picture with masks and points) and depth.png (near is bright), "
            "all of the picture's size, into this folder.",
        ),
    ] = None,
) -> None:
    """Ask a trained model a question about an image."""
    import time

    from perceptio.errors import InputError
    from perceptio.model.inference.marks import draw_marks
    from perceptio.model.perception_model import PerceptionModel, load
    from perceptio.ops.files import path_text
    from perceptio.ops.image_files import read_image

    points = [_point(text) for text in point or ()]
    settings = _settings(perceive, max_new_tokens)
    pixels_3HW = read_image(image)
    where = chosen(device)
    started = time.perf_counter()
    model = load(folder)
    loaded = time.perf_counter()
    if not isinstance(model, PerceptionModel):
        raise InputError(f"{folder} holds no model but a part, {type(model).__name__}; ask needs a model.")
    if out is not None:
        open_folder(out)
    model.to(where)
    answer = model.ask(pixels_3HW, question, points=points, settings=settings)
    written: list[str] = []
    if out is not None:
        asked = {"image": path_text(image), "question": question, "points": points}
        seconds = {"load": round(loaded - started, 4), "answer": round(answer.seconds, 4)}
        with writing(out):
            # Marks lie over masks, so that both are seen.
            shown_3HW = draw_marks(_overlaid(pixels_3HW, answer.masks), points)
            written = _write(out, answer, shown_3HW, asked | {"seconds": seconds})
    shown = console()
    say(shown, answer.text or "(no words)")
    if answer.truncated:
        say(shown, f"(cut at {max_new_tokens} tokens: --max-new-tokens allows more)", style="dim")
    if written:
        say(shown, f"Written to {out}: {', '.join(written)}", style="dim")


def _point(text: str) -> tuple[float, float]:
    from perceptio.errors import InputError

    try:
        x, y = map(float, text.split(","))
    except ValueError:
        raise InputError(f"--point {text} is no X,Y; write, say, --point 0.25,0.6.") from None
    return x, y


def _settings(perceive: str | None, max_new_tokens: int) -> "GenerationSettings":
    from typing import get_args

    from perceptio.errors import InputError, near_miss
    from perceptio.interfaces import StreamName
    from perceptio.interfaces import GenerationSettings

    if perceive is None:
        return GenerationSettings(max_new_tokens=max_new_tokens)
    known: dict[str, StreamName] = {name: name for name in get_args(StreamName)}
    names = [] if perceive == "none" else [name.strip() for name in perceive.split(",")]
    for name in names:
        if name not in known:
            raise InputError(f"--perceive names {name!r}{near_miss(name, (*known, 'none'))}")
    streams = tuple(known[name] for name in names)
    return GenerationSettings(order=streams, force=streams, max_new_tokens=max_new_tokens)


def _write(out: Path, answer: "Answer", shown_3HW: "Tensor", asked: dict[str, Any]) -> list[str]:
    """The names of the files written; of an earlier answer nothing is left."""
    from PIL import Image

    from perceptio.ops.files import new_file
    from perceptio.ops.json_files import write_json

    document = asked | {
        "answer": answer.text,
        "truncated": answer.truncated,
        "tokens": list(answer.tokens),
        "depth_codes": list(answer.codes),
        "readout": list(answer.readout),
        "masks": [int(mask.sum()) for mask in answer.masks],
    }
    write_json(out / "answer.json", document)
    with new_file(out / "masks.png") as new:
        Image.fromarray(shown_3HW.mul(255).round().byte().permute(1, 2, 0).numpy()).save(new)
    (out / "depth.png").unlink(missing_ok=True)
    if answer.depth is None:
        return ["answer.json", "masks.png"]
    size = (shown_3HW.shape[2], shown_3HW.shape[1])
    with new_file(out / "depth.png") as new:
        Image.fromarray(_colored(answer.depth)).resize(size, Image.Resampling.BILINEAR).save(new)
    return ["answer.json", "masks.png", "depth.png"]


def _overlaid(pixels_3HW: "Tensor", masks_NHW: "np.ndarray") -> "Tensor":
    """The picture in [0, 1] with each mask laid over it in a color of its own."""
    import torch

    shown_3HW = pixels_3HW.clone()
    for number, mask_HW in enumerate(torch.from_numpy(masks_NHW)):
        color_31 = torch.tensor(COLORS[number % len(COLORS)])[:, None] / 255
        shown_3HW[:, mask_HW] = 0.45 * shown_3HW[:, mask_HW] + 0.55 * color_31
    return shown_3HW


def _colored(depth: "DepthMap") -> "np.ndarray":
    """Near is bright, far is dark; from the map's own nearest to its farthest."""
    import numpy as np
    from matplotlib import colormaps

    nearness = depth.values_HW if depth.unit == "disparity" else -np.log(depth.values_HW)
    low, high = nearness.min(), nearness.max()
    return (colormaps["magma"]((nearness - low) / max(high - low, 1e-6))[..., :3] * 255).astype(np.uint8)
