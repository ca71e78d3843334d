"""`perceptio ask`: ask one question about one image, and show what the model perceived before it answered."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perceptio.cli.console import console, say
from perceptio.cli.devices import Device, DeviceOption, chosen
from perceptio.cli.files import open_folder, path, writing
from perceptio.cli.models import model_in
from perceptio.ops.wording import number_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

    from perceptio.model.inference.answer import Answer


def run(
    folder: Annotated[
        Path, typer.Argument(parser=path, metavar="DIR", help="A run's folder or a checkpoint.")
    ],
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[IMAGE] QUESTION",
            help="An image file (PNG, JPEG, …) and the question, as free text; without an image, the question alone.",
        ),
    ],
    point: Annotated[
        list[str] | None,
        typer.Option(
            metavar="X,Y", help="A marked point in [0, 1] from the upper left; repeat for points A, B, C, …"
        ),
    ] = None,
    perceive: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STREAMS",
            help="Perceive exactly these streams, in this order: names with commas between them, or none; may be "
            "repeated.",
            show_default="the recipe's streams, as the model decides",
        ),
    ] = None,
    max_new_tokens: Annotated[
        int, typer.Option(min=1, help="Maximum number of text tokens in the answer; longer answers are cut.")
    ] = 32,
    device: DeviceOption = Device.AUTO,
    out: Annotated[
        Path | None,
        typer.Option(
            parser=path,
            help="Folder for the results, all at the image's size: marked-picture.png, with points, masks and boxes; "
            "a STREAM.png for each map that was written; and answer.json.",
        ),
    ] = None,
) -> None:
    """Ask a trained model a question about an image, or about none."""
    import time

    from perceptio.interfaces import GenerationSettings
    from perceptio.ops.files import path_text
    from perceptio.ops.image_files import read_image

    points = [_point(text) for text in point or ()]
    streams = _streams(perceive)
    image, question = _image_and_question(words)
    pixels_3HW = None if image is None else read_image(image)
    where = chosen(device)
    started = time.perf_counter()
    model = model_in(folder, "ask")
    loaded = time.perf_counter()
    if out is not None:
        open_folder(out)
    model.to(where)
    settings = GenerationSettings(max_new_tokens=max_new_tokens)
    answer = model.ask(pixels_3HW, question, points=points, perceive=streams, settings=settings)
    written: list[str] = []
    if out is not None:
        asked = {"image": None if image is None else path_text(image), "question": question, "points": points}
        seconds = {"load": round(loaded - started, 4), "answer": round(answer.seconds, 4)}
        with writing(out):
            written = _write(out, answer, pixels_3HW, asked | {"seconds": seconds})
    shown = console()
    say(shown, answer.text or "(no words)")
    if answer.truncated:
        say(
            shown, f"(cut at {number_of(max_new_tokens, 'token')}: --max-new-tokens allows more)", style="dim"
        )
    if written:
        say(shown, f"Written to {out}: {', '.join(written)}", style="dim")


def _image_and_question(words: list[str]) -> tuple[Path | None, str]:
    from perceptio.errors import InputError

    if len(words) > 2:
        raise InputError(
            f"{len(words)} words follow the folder: give a question, or an image and a question, each in quotes."
        )
    *images, question = words
    if not images and Path(question).exists():
        raise InputError(f"{question} is a file or folder, and there is no question: add one, in quotes.")
    return (path(images[0]) if images else None), question


def _point(text: str) -> tuple[float, float]:
    from perceptio.errors import InputError

    try:
        x, y = map(float, text.split(","))
    except ValueError:
        raise InputError(f"--point {text} is no X,Y; write, say, --point 0.25,0.6.") from None
    return x, y


def _streams(perceive: list[str] | None) -> tuple[str, ...] | None:
    """Parse the names of streams; the model checks later that it has them."""
    if not perceive:
        return None
    names = tuple(name.strip() for given in perceive for name in given.split(","))
    return () if names == ("none",) else names


def _write(out: Path, answer: "Answer", pixels_3HW: "Tensor | None", asked: dict[str, Any]) -> list[str]:
    """Write the answer and its pictures, delete those of an earlier answer, and return the names of the new files."""
    from PIL import Image

    from perceptio.ops.files import new_file
    from perceptio.ops.json_files import read_json, write_json

    record = out / "answer.json"
    for name in read_json(record).get("pictures", ()) if record.is_file() else ():
        if isinstance(name, str) and Path(name).name == name and name.endswith(".png"):
            (out / name).unlink(missing_ok=True)
    pictures = {} if pixels_3HW is None else _pictures(answer, pixels_3HW, asked["points"])
    for name, picture in pictures.items():
        with new_file(out / name) as new:
            Image.fromarray(picture).save(new)
    document = asked | {
        "answer": answer.text,
        "truncated": answer.truncated,
        "tokens": list(answer.tokens),
        "codes": {name: list(codes) for name, codes in answer.codes.items()},
        "readout": list(answer.readout),
        "objects": {
            name: [_described(one) for one in held]
            for name, held in answer.decoded.items()
            if isinstance(held, tuple)
        },
        "pictures": list(pictures),
    }
    write_json(record, document)
    return ["answer.json", *pictures]


def _pictures(
    answer: "Answer", pixels_3HW: "Tensor", points: list[tuple[float, float]]
) -> dict[str, "npt.NDArray[np.uint8]"]:
    """Return the image with its marks, and each map, all at the image's size, by file name."""
    import numpy as np
    import torch
    from PIL import Image

    from perceptio.ops.marks import draw_marks
    from perceptio.ops.pictures import overlaid, picture_of

    objects = [one for decoded in answer.decoded.values() for one in _objects(decoded)]
    image_HW3 = pixels_3HW.mul(255).round().byte().permute(1, 2, 0).numpy()
    # Draw marks over masks, so that both are visible.
    drawn_3HW = torch.from_numpy(overlaid(image_HW3, objects)).permute(2, 0, 1) / 255
    marked_3HW = draw_marks(drawn_3HW, points)
    # No stream has a hyphen in its name, so this file name cannot clash.
    pictures = {"marked-picture.png": marked_3HW.mul(255).round().byte().permute(1, 2, 0).numpy()}
    for stream, decoded in answer.decoded.items():
        picture = picture_of(decoded)
        if picture is not None:
            pictures[f"{stream}.png"] = picture
    size = (pixels_3HW.shape[2], pixels_3HW.shape[1])
    return {
        name: np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR))
        for name, picture in pictures.items()
    }


def _objects(decoded: Any) -> list[Any]:
    """Return the masks and boxes of a stream: one for each object, or several masks of an image."""
    import numpy as np

    if isinstance(decoded, tuple):
        return list(decoded)
    several = isinstance(decoded, np.ndarray) and decoded.dtype == bool and decoded.ndim == 3
    return list(decoded) if several else []


def _described(decoded: Any) -> Any:
    """Describe an object in JSON: a mask by its number of pixels, anything else by its values."""
    import numpy as np

    if decoded is None:
        return None
    values = np.asarray(decoded)
    return int(values.sum()) if values.dtype == bool else values.tolist()
