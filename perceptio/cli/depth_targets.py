"""`perceptio depth-targets`: write a teacher's depth maps for a folder of images."""

import os
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perceptio.cli.console import Bars, console, say
from perceptio.cli.devices import Device, DeviceOption, chosen, of_this_rank
from perceptio.cli.files import path
from perceptio.cli.recipe import pairs
from perceptio.ops.wording import number_of

if TYPE_CHECKING:
    from perceptio.data.teachers.shards import Shard
    from perceptio.data.teachers.targets import TargetsReport
    from perceptio.interfaces import DepthTokenizer, Teacher


class Pictures(StrEnum):
    """Whether images are copied into the data folder or stay where they are."""

    COPY = "copy"
    PATH = "path"


SHOWN = 20
"""Number of files that are named before the rest is abbreviated."""


ImagesArgument = Annotated[Path, typer.Argument(parser=path, help="A folder of images, or a data folder.")]
TeacherOption = Annotated[
    str,
    typer.Option(
        help="depth-anything-v2-small, -base or -large; a folder with such a checkpoint, or its Hugging Face id; or "
        "PLUGIN/NAME for a plugin's teacher."
    ),
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        parser=path,
        help="Data folder to write, or to continue. If IMAGES is a data folder, OUT may be a separate folder, whose "
        "depth maps other data folders can share.",
        show_default="IMAGES, if it is a data folder",
    ),
]
PicturesOption = Annotated[
    Pictures,
    typer.Option(
        help="copy: copy images into OUT; path: leave them where they are and record their folder in OUT. Images of "
        "a data folder are never copied."
    ),
]
TokenizerOption = Annotated[
    Path | None,
    typer.Option(
        parser=path,
        metavar="RUN",
        help="Also write codes of this depth tokenizer: its folder, or that of a run.",
    ),
]
BatchSizeOption = Annotated[
    int, typer.Option(min=1, help="Images in one batch for the teacher; fewer if images are elongated.")
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Threads that decode images and write depth maps.",
        show_default="one per core, at most 8",
    ),
]
PrecisionOption = Annotated[
    str | None,
    typer.Option(
        help="fp32; bf16 or fp16, which are several times faster on a GPU; or auto: bf16 if the device computes "
        "in it.",
        show_default="the teacher's, fp32",
    ),
]
ImageSizeOption = Annotated[
    int | None,
    typer.Option(
        help="Shorter side of the teacher's input in pixels; for Depth Anything a multiple of 14.",
        show_default="the teacher's, 518",
    ),
]
SettingsOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of the teacher; may be repeated."),
]
ShardOption = Annotated[
    str | None,
    typer.Option(
        metavar="I/N",
        help="Process only the I-th of N shards of the images. Run N processes, on one or several machines, with the "
        "same OUT; the last one completes it. Under torchrun, processes split the work without this option.",
    ),
]
SkipBrokenOption = Annotated[
    bool, typer.Option("--skip-broken", help="List broken images, but exit with status 0.")
]


def run(
    images: ImagesArgument,
    teacher: TeacherOption,
    out: OutOption = None,
    pictures: PicturesOption = Pictures.COPY,
    tokenizer: TokenizerOption = None,
    batch_size: BatchSizeOption = 8,
    workers: WorkersOption = None,
    precision: PrecisionOption = None,
    device: DeviceOption = Device.AUTO,
    image_size: ImageSizeOption = None,
    settings: SettingsOption = None,
    shard: ShardOption = None,
    skip_broken: SkipBrokenOption = False,
) -> None:
    """Write a teacher's depth maps, and codes of them with --tokenizer, as a data folder for training.

    The same command continues after an interruption, or completes what shards have left. Targets of different
    teachers, preprocessings or tokenizers are never mixed in one folder. The process that completes the folder exits
    with status 1 if an image is broken.
    """
    from perceptio.cli.tokenize import depth_tokenizer_of
    from perceptio.data.folder.dataset_info import INFO_FILE
    from perceptio.data.teachers import load_teacher
    from perceptio.data.teachers.targets import check_folders, write_depth_targets
    from perceptio.data.teachers.teacher_pass import WORKERS
    from perceptio.errors import DataError
    from perceptio.training.codes import tokenizer_fingerprint

    check_folders(images, out or images)
    if out is None and not (images / INFO_FILE).is_file():
        raise DataError(f"{images} is no data folder: say with --out where its depth is to be written.")
    share = _share(shard)
    place = of_this_rank(chosen(device))
    stream, depth_tokenizer = ("", None) if tokenizer is None else depth_tokenizer_of(tokenizer)
    given = {"image_size": image_size, "precision": precision}
    changes = pairs("--set", settings, "image_size=518") | {
        key: value for key, value in given.items() if value is not None
    }
    loaded = load_teacher(teacher, changes, device=place)
    if depth_tokenizer is not None:
        _check_unit(depth_tokenizer, loaded, tokenizer)
        depth_tokenizer.to(place)
    shown = console()
    with Bars(shown) as bars:
        try:
            report = write_depth_targets(
                images,
                out or images,
                loaded,
                tokenizer=None if depth_tokenizer is None else tokenizer_fingerprint(depth_tokenizer),
                batch_size=batch_size,
                workers=workers or WORKERS,
                shard=share,
                placing=pictures.value,
                progress=bars.counting("depth maps" if share.count == 1 else f"depth maps, shard {share}"),
            )
        except KeyboardInterrupt:
            say(shown, "Stopped. The same command goes on from here.")
            raise
        if depth_tokenizer is not None and not report.waits_for:
            _write_codes(report.folder, stream, depth_tokenizer, bars)
    for line in _lines(report, share):
        say(shown, line)
    if report.broken and not report.waits_for and not skip_broken:
        raise typer.Exit(1)


def _share(shard: str | None) -> "Shard":
    """Return the share of this process: `--shard`, split further among the processes that torchrun started."""
    from perceptio.data.teachers.shards import Shard

    own = Shard.of_rank(os.environ)
    return own if shard is None else own.within(Shard.parse(shard))


def _check_unit(depth_tokenizer: "DepthTokenizer", teacher: "Teacher", folder: Path | None) -> None:
    """Refuse a tokenizer of metric depth for a teacher of relative depth."""
    from perceptio.errors import DataError

    if depth_tokenizer.spec.convention.metric and teacher.spec.unit != "metres":
        raise DataError(
            f"{folder} speaks of metres, and this teacher gives relative depth: take another tokenizer."
        )


def _write_codes(folder: Path, stream: str, depth_tokenizer: "DepthTokenizer", bars: Bars) -> None:
    """Write the codes of a data folder's depth maps into it."""
    from perceptio.data.folder import FolderDataset
    from perceptio.training.codes import codes_in, write_codes

    write_codes(FolderDataset(folder), depth_tokenizer, codes_in(folder, stream), bars.counting("codes"))


def _lines(report: "TargetsReport", share: "Shard") -> Iterator[str]:
    for message in report.broken.values():
        yield f"Broken: {message}"
    if report.flat:
        yield (
            f"{number_of(len(report.flat), 'picture')} at one depth everywhere, as the teacher sees them: "
            f"{_first(report.flat)}."
        )
    if report.passed_over:
        yield (
            f"{number_of(len(report.passed_over), 'file')} passed over, by their names no pictures: "
            f"{_first(report.passed_over)}."
        )
    shard = "" if share.count == 1 else f"shard {share}: "
    computing = (
        "" if report.computing is None else f"; the teacher computed {report.computing:.0%} of the time"
    )
    broken = number_of(len(report.broken), "picture")
    counts = f"{number_of(report.made, 'depth map')} made, {report.kept} kept, {broken} broken"
    yield f"{shard}{counts}: {report.folder}{computing}"
    if report.waits_for:
        yield (
            f"{shard}not complete yet: it waits for the shards {_first([str(one) for one in report.waits_for])}. The "
            "last one completes the folder, or the same command without --shard."
        )


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
