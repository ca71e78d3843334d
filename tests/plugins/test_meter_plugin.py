"""The example that brings a teacher: installed, and as a plugin file over real pictures, against true depth."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from perceptio.cli import main as command
from perceptio.data.folder import FolderDataset
from perceptio.data.folder.check import check_folder

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "plugin_meter"
REAL = ROOT.parent / "shared" / "data"
WEIGHTS = REAL / "meter" / "build_model_best_nyu_xxs"


def test_it_passes_its_own_tests_where_it_is_installed(install, own_tests):
    said = own_tests(EXAMPLE, install(EXAMPLE))
    assert int(re.search(r"(\d+) passed", said)[1]) >= 14


def ranks(values_N):
    return np.argsort(np.argsort(values_N))


@pytest.mark.skipif(not WEIGHTS.is_file(), reason="needs METER's published weights and real pictures")
def test_real_pictures_get_depth_in_the_order_of_their_true_depth(copied, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PERCEPTIO_PLUGIN_FILES", "")
    monkeypatch.setenv("COLUMNS", "200")
    pictures = tmp_path / "pictures"
    for folder, pattern in (
        ("nyu", "rgb_*.jpg"),
        ("sevenscenes", "frame-0000*0.color.jpg"),
        ("photos", "*.jpg"),
    ):
        (pictures / folder).mkdir(parents=True)
        for picture in (REAL / folder).glob(pattern):
            (pictures / folder / picture.name).symlink_to(picture)
    out = tmp_path / "out"
    words = ["--plugin", copied(EXAMPLE) / "meter.py", "depth-targets", pictures, "--teacher", "meter/meter"]
    words += ["--set", f"weights={WEIGHTS}", "--out", out, "--batch-size", 4]
    monkeypatch.setattr(sys, "argv", ["perceptio", *map(str, words)])
    with pytest.raises(SystemExit) as stopped:
        command.main()
    printed = capsys.readouterr().out
    assert not stopped.value.code and "10 depth maps made, 0 kept, 0 pictures broken" in printed
    assert not check_folder(out).problems
    dataset = FolderDataset(out)
    agreement = {}
    for number, record in enumerate(dataset.records):
        folder, _, name = record.id.partition("/")
        found = {
            "nyu": ("rgb", "sync_depth", ".jpg", ".png"),
            "sevenscenes": ("color", "depth", ".jpg", ".png"),
        }
        if folder not in found:
            continue
        old, new, jpeg, png = found[folder]
        true_HW = np.asarray(Image.open(REAL / folder / name.replace(old, new).replace(jpeg, png)), np.int64)
        known_HW = (true_HW > 0) & (true_HW < 65535)
        disparity_N = dataset.depth(number).values_HW[known_HW]
        agreement[record.id] = np.corrcoef(ranks(-disparity_N), ranks(true_HW[known_HW]))[0, 1]
    nyu = [value for name, value in agreement.items() if name.startswith("nyu")]
    assert len(nyu) == 2 and min(nyu) > 0.93
    assert len(agreement) == 5 and min(agreement.values()) > 0.6
