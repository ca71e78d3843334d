"""How verbs that train are told of trackers."""

from typing import Annotated

import typer

TrackOption = Annotated[
    list[str] | None,
    typer.Option(
        "--track",
        metavar="NAME",
        help="Send metrics to a tracker of accelerate, too, such as wandb, trackio or mlflow; repeated: several.",
        show_default="TensorBoard, in the run's folder, alone",
    ),
]
