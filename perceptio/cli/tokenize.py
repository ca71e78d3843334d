"""`perceptio tokenize`: turn one depth map into codes and back.

Shapes: H W pixels.
"""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perceptio.cli.console import console, say
from perceptio.cli.devices import Device, DeviceOption, chosen
from perceptio.cli.files import open_folder, path, writing
from perceptio.cli.train_tokenizer import figures_table

if TYPE_CHECKING:
    import numpy as np

    from perceptio.evaluation.tokenizers import DepthRoundTrip
    from perceptio.interfaces import DepthMap, DepthTokenizer

MILLIMETRE = 0.001


class Unit(StrEnum):
    """The meaning of the values in a depth file."""

    METRES = "metres"
    MILLIMETRES = "millimetres"
    DISPARITY = "disparity"


def run(
    folder: Annotated[
        Path,
        typer.Argument(
            parser=path,
            metavar="RUN",
            help="Folder of a depth tokenizer, or of a run whose depth tokenizer is used.",
        ),
    ],
    depth_file: Annotated[
        Path,
        typer.Argument(
            parser=path,
            help="A depth map of any size: 16-bit gray PNG (0 is unknown) or floating-point NPY (NaN is unknown).",
        ),
    ],
    unit: Annotated[
        Unit | None,
        typer.Option(
            help="Unit of the file's values.",
            show_default="as in its data folder; otherwise millimetres for PNG, metres for NPY",
        ),
    ] = None,
    scale: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER",
            help="Factor that converts the file's values to the unit, which is metres unless --unit is given: a "
            "number or a fraction, such as 1/256 for KITTI.",
        ),
    ] = None,
    device: DeviceOption = Device.AUTO,
    out: Annotated[
        Path | None,
        typer.Option(
            parser=path,
            help="Folder for the results.",
            show_default="NAME-tokens in the working directory",
        ),
    ] = None,
) -> None:
    """Turn a depth map into codes and back: write codes, reconstruction and comparison, and show the loss."""
    from perceptio.errors import DataError
    from perceptio.evaluation.tokenizers import round_trip
    from perceptio.ops.files import path_text

    depth = _read(depth_file, unit, scale)
    where = chosen(device)
    tokenizer = depth_tokenizer_of(folder)[1].to(where)
    out = out or Path(f"{depth_file.stem}-tokens")
    open_folder(out)
    try:
        made = round_trip(tokenizer, depth)
    except DataError as error:
        raise DataError(f"{depth_file}: {error}") from error
    with writing(out):
        _write(out, made, tokenizer, {"tokenizer": path_text(folder), "depth_file": path_text(depth_file)})
    height, width = depth.values_HW.shape
    shown = console()
    say(shown, f"{depth_file.name}, {height}x{width}, {made.depth.unit}")
    shown.print(figures_table(made.figures))
    written = ", ".join(sorted(path.name for path in out.iterdir()))
    say(shown, f"Written to {out}: {written}")


def _read(file: Path, unit: Unit | None, scale: str | None) -> "DepthMap":
    import attrs

    from perceptio.data.folder.dataset_info import INFO_FILE, DatasetInfo, parse_info
    from perceptio.data.folder.loading import read_depth

    data_folder = file.resolve().parent.parent
    if unit is None and scale is None and (data_folder / INFO_FILE).is_file():
        return read_depth(file, parse_info(data_folder))
    if unit is None:
        unit = Unit.METRES if scale or file.suffix.lower() == ".npy" else Unit.MILLIMETRES
    factor = (MILLIMETRE if unit is Unit.MILLIMETRES else 1.0) * (1.0 if scale is None else _number(scale))
    info = DatasetInfo(depth_unit="disparity" if unit is Unit.DISPARITY else "metres", depth_scale=factor)
    depth = read_depth(file, info)
    # The reader scales values of a PNG only; values of an NPY file come back unscaled.
    return attrs.evolve(depth, values_HW=depth.values_HW * factor) if file.suffix.lower() == ".npy" else depth


def _number(scale: str) -> float:
    """Parse `--scale`, which must be above 0."""
    from fractions import Fraction

    from perceptio.errors import InputError

    try:
        number = float(Fraction(scale))
    except (ValueError, ZeroDivisionError, OverflowError):
        number = 0.0
    if number <= 0:
        raise InputError(f"--scale {scale} is no number above 0; write, say, --scale 1/256 or --scale 0.001.")
    return number


def depth_tokenizer_of(folder: Path) -> "tuple[str, DepthTokenizer]":
    """Return the name of a stream and its depth tokenizer, from a folder of a tokenizer or a model.

    For a tokenizer without a model, the name is `"depth"`.

    Raises:
        CheckpointError: The folder has no depth tokenizer.
    """
    from perceptio.errors import CheckpointError
    from perceptio.interfaces import DepthTokenizer
    from perceptio.model.perception_model import PerceptionModel, load

    held = load(folder)
    found = {"depth": held}
    if isinstance(held, PerceptionModel):
        found = {stream.name: held.stream(stream.name).tokenizer for stream in held.recipe.streams}
    for name, tokenizer in found.items():
        if isinstance(tokenizer, DepthTokenizer):
            return name, tokenizer
    what = "a model without a depth tokenizer" if held not in found.values() else f"a {type(held).__name__}"
    raise CheckpointError(f"{folder} holds {what}: name a depth tokenizer's folder, or a run with one.")


def _write(out: Path, made: "DepthRoundTrip", tokenizer: "DepthTokenizer", source: dict[str, Any]) -> None:
    import numpy as np
    from PIL import Image

    from perceptio.data.folder.loading import DEPTH_LEVELS
    from perceptio.ops.files import new_file
    from perceptio.ops.json_files import without_nan, write_json

    values_HW = made.depth.values_HW
    metric = made.depth.unit == "metres"
    scale = max(MILLIMETRE, float(values_HW.max()) / DEPTH_LEVELS) if metric else 1 / DEPTH_LEVELS
    document = source | {
        "codebook_size": tokenizer.spec.codebook_size,
        "codes": made.codes_hw.tolist(),
        "reconstruction": {"unit": made.depth.unit, "scale": scale},
        "figures": made.figures,
    }
    write_json(out / "codes.json", without_nan(document))
    with new_file(out / "reconstruction.npy") as new:
        np.save(new, values_HW)
    levels_HW = np.rint(values_HW / scale).clip(1, DEPTH_LEVELS)  # 0 would mean unknown.
    for name, pixels in (("reconstruction", levels_HW.astype(np.uint16)), ("comparison", _compared(made))):
        with new_file(out / f"{name}.png") as new:
            Image.fromarray(pixels).save(new)


def _compared(made: "DepthRoundTrip") -> "np.ndarray":
    """Draw the given map and its reconstruction side by side on one scale: near is bright, unknown is gray."""
    import numpy as np
    from matplotlib import colormaps

    both = np.concatenate([made.truth_HW, made.depth.values_HW], axis=1)
    nearness = both if made.depth.unit == "disparity" else -np.log(both)
    low, high = np.nanmin(nearness), np.nanmax(nearness)
    colors = colormaps["magma"]((nearness - low) / max(high - low, 1e-6))[..., :3]
    return (np.where(np.isnan(both)[..., None], 0.5, colors) * 255).astype(np.uint8)
