"""`perceptio ask`: one question about one image, and what was perceived on the way to the answer."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import numpy as np

    from perceptio.interfaces import DepthMap
    from perceptio.model.answer import Answer

COLORS = ((230, 57, 70), (69, 123, 214), (42, 157, 143), (244, 162, 37), (155, 93, 229))


def run(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run's folder or a checkpoint.")],
    image: Annotated[Path, typer.Argument(help="A picture: PNG, JPEG, …")],
    question: Annotated[str, typer.Argument(help="Any text.")],
    point: Annotated[
        list[str] | None,
        typer.Option(
            metavar="X,Y", help="A marked point in [0, 1] from the upper left; repeated: A, B, C, …"
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write answer.json, masks.png and depth.png into this folder.")
    ] = None,
) -> None:
    """Ask a trained model a question about an image."""
    from rich.console import Console

    from perceptio.errors import InputError
    from perceptio.model.checkpoint import load
    from perceptio.model.perception_model import PerceptionModel
    from perceptio.ops.image_files import read_image

    points = [_point(text) for text in point or ()]
    pixels_3HW = read_image(image)
    model = load(folder)
    if not isinstance(model, PerceptionModel):
        raise InputError(f"{folder} holds a {type(model).__name__}; ask needs a model.")
    answer = model.ask(pixels_3HW, question, points=points)
    console = Console(highlight=False)
    console.print(answer.text or "(no words)", markup=False)
    if out is not None:
        _write(out, answer, pixels_3HW.permute(1, 2, 0).numpy(), str(image), question, points)
        console.print(
            f"[dim]Written to {out}: {', '.join(sorted(path.name for path in out.iterdir()))}[/dim]"
        )


def _point(text: str) -> tuple[float, float]:
    from perceptio.errors import InputError

    try:
        x, y = map(float, text.split(","))
    except ValueError:
        raise InputError(f"--point {text} is no X,Y; write, say, --point 0.25,0.6.") from None
    return x, y


def _write(
    out: Path,
    answer: "Answer",
    pixels_HW3: "np.ndarray",
    image: str,
    question: str,
    points: list[tuple[float, float]],
) -> None:
    import json

    from PIL import Image

    out.mkdir(parents=True, exist_ok=True)
    document = {
        "image": image,
        "question": question,
        "points": points,
        "answer": answer.text,
        "tokens": list(answer.tokens),
        "depth_codes": list(answer.codes),
        "readout": list(answer.readout),
        "masks": [int(mask.sum()) for mask in answer.masks],
        "seconds": round(answer.seconds, 4),
    }
    (out / "answer.json").write_text(json.dumps(document, indent=1, ensure_ascii=False), encoding="utf-8")
    Image.fromarray(_overlaid(pixels_HW3, answer.masks)).save(out / "masks.png")
    if answer.depth is not None:
        Image.fromarray(_colored(answer.depth)).save(out / "depth.png")


def _overlaid(pixels_HW3: "np.ndarray", masks_NHW: "np.ndarray") -> "np.ndarray":
    """The picture with each mask laid over it in a color of its own."""
    import numpy as np

    shown = pixels_HW3 * 255
    for number, mask_HW in enumerate(masks_NHW):
        shown[mask_HW] = 0.45 * shown[mask_HW] + 0.55 * np.array(COLORS[number % len(COLORS)])
    return shown.clip(0, 255).astype(np.uint8)


def _colored(depth: "DepthMap") -> "np.ndarray":
    """Near is bright, far is dark; from the map's own nearest to its farthest."""
    import numpy as np
    from matplotlib import colormaps

    nearness = depth.values_HW if depth.unit == "disparity" else -np.log(depth.values_HW)
    low, high = nearness.min(), nearness.max()
    return (colormaps["magma"]((nearness - low) / max(high - low, 1e-6))[..., :3] * 255).astype(np.uint8)
