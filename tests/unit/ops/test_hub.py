from pathlib import Path

import huggingface_hub
import pytest

from perceptio.errors import CheckpointError
from perceptio.ops.hub import resolve


@pytest.fixture
def hub(monkeypatch):
    """A hub that answers by the function put into it."""

    def answer(function):
        monkeypatch.setattr(huggingface_hub, "snapshot_download", function)

    return answer


def test_a_place_on_this_machine_is_itself(tmp_path, hub):
    hub(lambda *_, **__: pytest.fail("The hub was asked."))
    (tmp_path / "w.pt").touch()
    assert resolve(str(tmp_path), ()) == tmp_path
    assert resolve(str(tmp_path / "w.pt"), ()) == tmp_path / "w.pt"
    for absent in (str(tmp_path / "absent"), "./owner/name", "name"):
        with pytest.raises(CheckpointError, match="There are no weights at .*, and it is no hub id"):
            resolve(absent, ())


def test_a_hub_id_is_fetched_by_patterns(hub):
    hub(lambda name, allow_patterns: f"/cache/{name}/{'+'.join(allow_patterns)}")
    assert resolve("owner/name-1.5", ("*.json",)) == Path("/cache/owner/name-1.5/*.json")


def test_without_network_the_way_out_is_said(hub):
    def fail(*_, **__):
        raise ConnectionError("no route to host\nand more")

    hub(fail)
    with pytest.raises(CheckpointError, match=r"\(no route to host and more\).*name that folder instead"):
        resolve("owner/name", ())
