"""What a harness is told of the model, read from texts and numbers."""

import pytest
import torch

from perceptio.errors import InputError, UnknownNameError
from perceptio.harness.model_args import ModelArgs


def test_numbers_may_come_as_texts():
    args = ModelArgs.of(
        {"pretrained": "runs/mine", "perceive": "none", "batch_size": "8", "max_new_tokens": 16}
    )
    assert args == ModelArgs(pretrained="runs/mine", perceive="none", batch_size=8, max_new_tokens=16)
    assert ModelArgs.of({"pretrained": "x", "device": "cpu"}).torch_device == torch.device("cpu")


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"percieve": "none"}, UnknownNameError, "has no argument 'percieve'; did you mean 'perceive'"),
        ({"perceive": "none"}, InputError, "No model is named: give pretrained=DIR"),
        ({"pretrained": "x", "dtype": "fp16"}, InputError, "dtype is 'fp16': it must be auto, float32 or"),
        ({"pretrained": "x", "batch_size": "auto"}, InputError, "batch_size is 'auto': it must be a whole"),
        ({"pretrained": "x", "max_new_tokens": 0}, InputError, "max_new_tokens is 0: it must be a whole"),
    ],
)
def test_what_cannot_be_meant_is_said(given, error, message):
    with pytest.raises(error, match=message):
        ModelArgs.of(given)


def test_a_device_that_is_not_there_is_said():
    with pytest.raises(InputError, match="device is 'gpu', and PyTorch finds none here"):
        _ = ModelArgs.of({"pretrained": "x", "device": "gpu"}).torch_device
