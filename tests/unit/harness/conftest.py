from pathlib import Path

import fake_harnesses
import pytest
import torch
from small import small_recipe

from perceptio.model.perception_model import build_model

fake_harnesses.stand_in()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    """A small model as a user has it: a folder."""
    folder = tmp_path_factory.mktemp("harness") / "model"
    torch.manual_seed(3)
    model = build_model(small_recipe())
    for parameter in model.language.parameters():
        if parameter.ndim == 1:
            parameter.data.normal_()  # Otherwise it repeats the last thing that it reads.
    model.save_pretrained(folder)
    return folder
