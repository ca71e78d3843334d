"""The option `--track` of verbs that train."""

from typing import Annotated

import typer

TrackOption = Annotated[
    list[str] | None,
    typer.Option(
        "--track",
        metavar="NAME",
        help="Also send metrics to a tracker of accelerate, such as wandb, trackio or mlflow; may be repeated.",
        show_default="only TensorBoard, in the run's folder",
    ),
]
