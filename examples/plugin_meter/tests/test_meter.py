"""METER at its published sizes, with random weights; conformance of the teacher, and weights that do not fit."""

import pytest
import torch
from meter import MeterConfig
from meter_network import METER, SIZES

from perceptio.errors import CheckpointError, InputError
from perceptio.testing import TeacherConformance


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file as the authors publish it, of a network that sees something between 1 and 5 metres."""
    torch.manual_seed(0)
    network = METER(SIZES["xxs"])
    with torch.no_grad():
        network.train()(torch.rand(4, 3, 64, 128))  # Batch statistics.
        found = network.eval()(torch.rand(4, 3, 64, 128))
        network.decoder.conv2d_out.weight.mul_(100 / found.std())
    file = tmp_path_factory.mktemp("weights") / "build_model_best_nyu_xxs"
    torch.save(network.state_dict(), file)
    return file


class TestMeter(TeacherConformance):
    @pytest.fixture(autouse=True)
    def _with_weights(self, weights):
        type(self).config = MeterConfig(weights=str(weights), image_size=64)


@pytest.mark.parametrize(("size", "millions"), [("xxs", 0.71), ("xs", 1.45), ("s", 3.29)])
def test_sizes_are_those_of_the_paper(size, millions):
    network = METER(SIZES[size]).eval()
    assert sum(value.numel() for value in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)
    assert network(torch.rand(1, 3, 128, 192)).shape == (1, 1, 32, 48)


@pytest.mark.parametrize(
    ("shape", "seen"), [((480, 640), (192, 256)), ((640, 480), (256, 192)), ((90, 90), (192, 192))]
)
def test_a_picture_of_nyu_is_seen_as_meter_was_trained(weights, shape, seen):
    teacher = MeterConfig(weights=str(weights)).load(torch.device("cpu"))
    assert teacher.prepare(torch.rand(3, *shape)).shape == (3, *seen)
    with pytest.raises(InputError, match="100x10 pixels are more than 8 times as long as wide"):
        teacher.prepare(torch.rand(3, 10, 100))


def test_weights_that_do_not_fit(weights, tmp_path):
    with pytest.raises(CheckpointError, match="There is no file nothing with METER's weights: name the file"):
        MeterConfig(weights="nothing").load(torch.device("cpu"))
    with pytest.raises(CheckpointError, match=r"does not hold the weights of METER-XS: .*--set size=xs"):
        MeterConfig(weights=str(weights), size="xs").load(torch.device("cpu"))
    (tmp_path / "text").write_text("no weights")
    with pytest.raises(CheckpointError, match="text does not hold the weights of METER-XXS"):
        MeterConfig(weights=str(tmp_path / "text")).load(torch.device("cpu"))
    with pytest.raises(InputError, match="image_size is 100; METER sees multiples of 64"):
        MeterConfig(image_size=100)
