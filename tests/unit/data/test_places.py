"""Where data folders lie: addresses, what identifies a file there, and what a packed folder cannot be used for."""

import os
import re
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest
from small import scenes_folder

from perceptio.data.folder import FolderDataset
from perceptio.data.folder.identity import hash_of_data
from perceptio.data.folder.pack import pack_folder
from perceptio.data.folder.places import _version
from perceptio.data.sources.depth_beside import DepthBeside
from perceptio.data.sources.marked_points import MarkedPointsSource
from perceptio.data.teachers.targets import check_folders
from perceptio.errors import DataError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    return scenes_folder(tmp_path / "data", count=3)


class Handler(SimpleHTTPRequestHandler):
    """Files with parts of them; `server` says what else it does."""

    def send_head(self):
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        file = self.translate_path(self.path)
        self.server.asked.append(self.path)
        if asked is None or not self.server.parts or not os.path.isfile(file):
            return super().send_head()
        first, last = int(asked[1]), int(asked[2])
        with open(file, "rb") as held:
            held.seek(first)
            content = held.read(last - first + 1)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{last}/{os.path.getsize(file)}")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def send_header(self, keyword, value):
        if keyword != "Last-Modified" or self.server.dates:
            super().send_header(keyword, value)

    def list_directory(self, path):
        return super().list_directory(path) if self.server.lists else self.send_error(403)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path):
    pytest.importorskip("aiohttp", reason="the extra http is not installed")
    (tmp_path / "www").mkdir()

    def handler(*given):
        return Handler(*given, directory=str(tmp_path / "www"))

    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.parts = server.dates = server.lists = True
    server.asked = []
    server.address = f"http://127.0.0.1:{server.server_port}/scenes"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("lists", [True, False])
def test_a_folder_on_a_web_server_is_read(folder, tmp_path, server, lists):
    server.lists = lists
    packed = tmp_path / "www" / "scenes"
    pack_folder(folder, packed, shard_size=4000)
    dataset = FolderDataset(server.address)
    for one, other in zip(dataset, FolderDataset(folder), strict=True):
        assert (one.image_3HW == other.image_3HW).all() and one.id == other.id
    expected = hash_of_data(FolderDataset(folder))
    server.asked.clear()
    assert hash_of_data(dataset) == expected and server.asked == []  # It brings its hash.
    server.parts = False
    with pytest.raises(
        DataError, match=r"its server gives .* bytes of .* that are asked for: put the folder on"
    ):
        dataset[0]
    os.remove(packed / "shards" / "00001.tar")
    with pytest.raises(DataError, match="shards/00001.tar is missing: copy it from where"):
        FolderDataset(server.address)


@pytest.mark.parametrize("dates", [True, False])
def test_a_change_of_the_same_size_on_a_server_is_seen(folder, tmp_path, server, dates):
    server.dates = dates
    pack_folder(folder, packed := tmp_path / "www" / "scenes")
    lines, address = packed / "samples.jsonl", server.address
    os.utime(lines, (10**9, 10**9))
    name = FolderDataset(address).records[0].id
    server.asked.clear()
    FolderDataset(address)
    copied = sum(path.endswith("samples.jsonl") for path in server.asked)
    assert copied == (1 if dates else 2)  # Asked about; and copied where nothing tells.
    lines.write_text(lines.read_text().replace(f'"{name}"', f'"{name[::-1]}"'))
    os.utime(lines, (10**9 + 1, 10**9 + 1))
    assert FolderDataset(address).records[0].id == name[::-1]


def test_what_tells_one_content_from_another():
    about = {
        "name": "x",
        "type": "file",
        "size": 3,
        "url": "http://x",
        "mimetype": "text/plain",
        "ETag": None,
    }
    assert _version(about) is None
    told = [
        about | one for one in ({"ETag": "1"}, {"ETag": "2"}, {"Last-Modified": "x"}, {"LastModified": "x"})
    ]
    assert len({_version(one) for one in [*told, told[0] | {"size": 4}]}) == 5
    assert None not in map(_version, told)
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/places/x", b"x")
    assert _version(memory.info("/places/x")) is not None


def test_a_url_of_a_file_is_its_path(folder, tmp_path):
    url = f"file://{folder}"
    assert FolderDataset(url).root == folder
    pack_folder(url, f"file://{tmp_path}/packed")
    assert len(FolderDataset(tmp_path / "packed")) == 3
    with pytest.raises(DataError, match=r"There is no folder /nowhere: check the path"):
        FolderDataset("file:///nowhere")


def test_a_missing_package_is_named(monkeypatch):
    from fsspec.registry import _registry

    monkeypatch.setitem(sys.modules, "aiohttp", None)
    monkeypatch.delitem(sys.modules, "fsspec.implementations.http", raising=False)
    monkeypatch.delitem(_registry, "https", raising=False)
    monkeypatch.delitem(_registry, "s3", raising=False)
    with pytest.raises(
        DataError,
        match=r"https://host/x needs a package that is not installed \(.*aiohttp.*\): pip install 'perceptio\[http",
    ):
        FolderDataset("https://host/x")
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(
        DataError, match=r"s3://host/x needs a package that is .* \(Install s3fs .*\): install what"
    ):
        FolderDataset("s3://host/x")


@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize(
    ("use", "need"),
    [
        (lambda folder: check_folders(folder, Path("out")), "a teacher reads and writes"),
        (lambda folder: check_folders(Path("pictures"), folder), "a teacher reads and writes"),
        (DepthBeside, "depth that other folders name lies in"),
        (lambda folder: MarkedPointsSource(folder=str(folder)).info(), "new questions name"),
    ],
)
def test_what_needs_files_by_themselves_refuses_a_packed_folder(folder, tmp_path, use, need, elsewhere):
    packed = Path("s3://bucket/packed") if elsewhere else tmp_path / "packed"
    if not elsewhere:
        pack_folder(folder, packed)
    with pytest.raises(
        DataError, match=f"packed is packed in shards, and {need} files by themselves on a disk: give"
    ):
        use(packed)
