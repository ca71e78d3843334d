"""Twenty-five seconds of training the small recipe, and a question to what came of it.

python benchmarks/gpu/small_training.py --out FILE [--rehearse]
"""

import math
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
import torch
from steps import run_step, with_data

from perceptio.model.perception_model import load
from perceptio.settings import load_recipe
from perceptio.training.trainer import Progress, train

SECONDS = {False: 25, True: 1}
"""An H200 takes two hundred steps meanwhile."""
SIZE = {False: 80, True: 32}


def measure(device: torch.device, rehearse: bool) -> dict[str, Any]:
    """Train until the time is up, end it as Ctrl-C does, which saves, and ask what was saved."""
    recipe = load_recipe("perceptio_tiny")
    training = attrs.evolve(
        recipe.train, steps=10**6, warmup_steps=50, log_every=1 if rehearse else 5, save_every=10**6
    )
    recipe = attrs.evolve(recipe, train=training)
    with tempfile.TemporaryDirectory() as held:
        folder = Path(held)
        count, steps = (32, 20) if rehearse else (256, 300)
        recipe = with_data(recipe, folder, device, count=count, size=SIZE[rehearse], tokenizer_steps=steps)
        records: list[Progress] = []

        def progress(now: Progress) -> None:
            if now.metrics:
                records.append(now)
            if len(records) > 1 and now.step * now.seconds > SECONDS[rehearse]:
                signal.raise_signal(signal.SIGINT)

        with suppress(KeyboardInterrupt):
            train(recipe, folder / "run", progress=progress)
        model = load(folder / "run").to(device)
        image = torch.rand(3, SIZE[rehearse], SIZE[rehearse], generator=torch.Generator().manual_seed(0))
        points = [(0.2, 0.3), (0.8, 0.7)]
        answer = model.ask(image, "Which point is closest to the camera?", points=points)
    first, last = records[0].metrics, records[-1].metrics
    found = {
        "steps": records[-1].step,
        "seconds_per_step": records[-1].seconds,
        "first": dict(first),
        "last": dict(last),
        "answer": answer.text,
        "tokens": len(answer.tokens),
    }
    found["summary"] = (
        f"{records[-1].step} steps, {records[-1].seconds:.3f} s each; "
        f"loss {first['loss']:.2f} to {last['loss']:.2f}; answered {answer.text!r} after {len(answer.tokens)} tokens"
    )
    # Two steps of a rehearsal need not show that anything is learned.
    found["learned"] = math.isfinite(last["loss"]) and (rehearse or last["loss"] < first["loss"] / 2)
    return found


if __name__ == "__main__":
    sys.exit(not run_step(measure)["learned"])
