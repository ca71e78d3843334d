"""What is read from outside, format by format: valid files, their mutants, and the reader that users meet."""

import atexit
import functools
import io
import json
import pickle
import shutil
import struct
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from benchmark_files import blink, cv_bench, cv_bench_rows, hardblink
from hypothesis import strategies as st
from layouts import LLAVA, write_classes, write_llava, write_picture
from mutations import byte_mutants, json_mutants
from PIL import Image
from published import instances, python2_pickle, refs_of, write_pictures, write_refcoco
from safetensors.torch import save
from small import scenes_folder, small_recipe
from teachers import official_teacher
from tiny_hf import SETTINGS, TEXT_VOCAB, model_json, write_tokenizer

import perceptio
from perceptio.backbones import internvl
from perceptio.backbones.language.hf import HFLanguageConfig
from perceptio.backbones.language.hf_settings import MODEL_TYPES
from perceptio.backbones.language.hf_text import CHATML, HFTextTokenizer
from perceptio.convert.aurora import convert_aurora_vqvae
from perceptio.convert.sa2va import _Export
from perceptio.data.folder import FolderDataset
from perceptio.data.folder.check import check_folder
from perceptio.data.folder.pack import pack_folder
from perceptio.data.scenes import SceneSet
from perceptio.data.sources.ade20k import ADE20KSource
from perceptio.data.sources.coco import COCOSource
from perceptio.data.sources.depth_pairs import DepthPairsSource
from perceptio.data.sources.importing import import_source
from perceptio.data.sources.llava import LLaVASource
from perceptio.data.sources.refcoco import RefCOCOSource
from perceptio.data.teachers import load_teacher
from perceptio.data.teachers.targets import _check_record
from perceptio.evaluation.suites import suite_named
from perceptio.interfaces import SourceConfig
from perceptio.model.checkpoints.checkpoint import save as save_checkpoint
from perceptio.model.perception_model import build_model
from perceptio.ops.image_files import read_image
from perceptio.ops.pickled_weights import read_pickled
from perceptio.ops.run_lengths import format_runs
from perceptio.ops.weights import INDEX, load_tensors
from perceptio.tokenizers.segmentation.hf_sam import HFSAMSegmentationConfig
from perceptio.training.codes import codes_in, read_codes, write_codes

FORMAT_1 = Path(__file__).parent.parent / "data" / "format_1"
"""A checkpoint of an earlier version."""


@attrs.frozen(kw_only=True)
class Format:
    """A format.

    Attributes:
        mutants: The bytes of a file that is valid, or not quite.
        prepare: Makes a folder in which all is well but for that file; the file's path.
        read: What a user does with it; raises a `PerceptioError`, or nothing.
        refuses: Whether a mutant can be wrong at all.
        part: How a message begins that is about a part, which knows its values and not the file they are from.
    """

    mutants: st.SearchStrategy[bytes]
    prepare: Callable[[Path], Path]
    read: Callable[[Path], Any]
    refuses: bool = True
    part: str | None = None


def _file(name: str) -> Callable[[Path], Path]:
    return lambda folder: folder / name


def _both(seeds: Sequence[Any]) -> st.SearchStrategy[bytes]:
    """Mutants of a document's values, and of its bytes."""
    return st.one_of(
        json_mutants(seeds), json_mutants(seeds), byte_mutants([json.dumps(s).encode() for s in seeds])
    )


# -- pictures -----------------------------------------------------------------------------------------------------


def _picture(mode: str, size: tuple[int, int] = (20, 12)) -> Image.Image:
    width, height = size
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values).convert(mode)


def _saved(kind: str, mode: str = "RGB", size: tuple[int, int] = (20, 12), **options: Any) -> bytes:
    stream = io.BytesIO()
    _picture(mode, size).save(stream, kind, **options)
    return stream.getvalue()


def _exif() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "maker"
    exif.get_ifd(0x8769)[0x9003] = "2024:01:01 00:00:00"
    return exif.tobytes()


PICTURES = {
    "png": [
        *(_saved("PNG", mode) for mode in ("RGB", "RGBA", "L", "LA", "P", "1")),
        _saved("PNG", exif=_exif()),
    ],
    "jpeg": [
        _saved("JPEG"),
        _saved("JPEG", "L"),
        _saved("JPEG", "CMYK"),
        _saved("JPEG", progressive=True, exif=_exif()),
    ],
    "gif": [
        _saved("GIF", "P"),
        _saved("GIF", "L"),
        _saved("GIF", save_all=True, append_images=[_picture("L")]),
    ],
    "webp": [_saved("WEBP"), _saved("WEBP", lossless=True, exif=_exif()), _saved("WEBP", "RGBA")],
    "tiff": [
        *(_saved("TIFF", mode) for mode in ("RGB", "L", "F", "CMYK")),
        _saved("TIFF", compression="tiff_lzw"),
    ],
    "bmp, ppm, jp2": [_saved("BMP"), _saved("BMP", "P"), _saved("PPM"), _saved("JPEG2000")],
}


def _with_exif(blob: bytes) -> bytes:
    """A whole JPEG with a piece of metadata."""
    whole = _saved("JPEG")
    blob = blob[:65_000]
    return whole[:2] + b"\xff\xe1" + struct.pack(">H", len(blob) + 2) + blob + whole[2:]


# -- data folders -------------------------------------------------------------------------------------------------


def _data_folder(name: str) -> Callable[[Path], Path]:
    def prepare(folder: Path) -> Path:
        folder = scenes_folder(folder / "scenes", count=2)
        line = json.loads((folder / "samples.jsonl").read_text().split("\n")[0])
        return folder / line.get(name, name)

    return prepare


def _depth_array(folder: Path) -> Path:
    folder = scenes_folder(folder / "scenes", count=2)
    lines = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    lines[0]["depth"] = "depth/a.npy"
    (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder / "depth/a.npy"


def _map_file(ending: str) -> Callable[[Path], Path]:
    """A folder whose first sample has its normals in a file that is not there yet."""

    def prepare(folder: Path) -> Path:
        folder = scenes_folder(folder / "scenes", count=2)
        lines = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
        (folder / lines[0]["maps"]["normals"]).unlink()
        lines[0]["maps"]["normals"] = f"maps/a.{ending}"
        (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return folder / f"maps/a.{ending}"

    return prepare


def _read_data(file: Path) -> None:
    """Both readers of a folder agree on whether anything is wrong."""
    folder = file.parent if (file.parent / "images").is_dir() else file.parent.parent
    report = check_folder(folder)
    if report.problems and all("named by no sample" in str(one) for one in report.problems):
        report = attrs.evolve(report, problems=())
    for sample in (dataset := FolderDataset(folder)):
        assert sample.image_3HW is not None or sample.turns
        dict(sample.maps)  # Reads them.
    assert not report.problems and len(dataset), report.problems


def _npy(values: np.ndarray, **options: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values, **options)
    return stream.getvalue()


def _arrays() -> list[bytes]:
    depth = np.random.default_rng(0).uniform(1, 5, (32, 32))
    archive = io.BytesIO()
    np.savez(archive, a=depth)
    return [
        *(_npy(depth.astype(kind)) for kind in ("<f4", ">f4", "<f2", "<f8")),
        _npy(np.asfortranarray(depth)),
        _npy(np.array([{}], dtype=object)),
        archive.getvalue(),
    ]


def _map_arrays() -> list[bytes]:
    values = np.random.default_rng(0).uniform(-1, 1, (32, 32, 3))
    unknown = np.where(np.arange(32)[:, None, None] < 9, np.nan, values)
    kinds = ("<f4", ">f4", "<f2", "<f8")
    return [*(_npy(one.astype(kind)) for one in (values, unknown) for kind in kinds), _npy(values[..., 0])]


def _gray(mode: str, high: int) -> bytes:
    stream = io.BytesIO()
    values = (
        np.random.default_rng(0).integers(1, high, (32, 32)).astype(np.uint16 if mode == "I;16" else np.uint8)
    )
    Image.fromarray(values).save(stream, "PNG")
    return stream.getvalue()


@functools.cache
def _sample_lines() -> list[dict[str, Any]]:
    """The lines that a folder of two scenes has, the second with masks as runs."""
    with tempfile.TemporaryDirectory() as made:
        folder = scenes_folder(Path(made) / "scenes", count=2)
        lines = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    runs = [
        {"id": number, "size": [32, 32], "counts": [40 * number, 20, 1004 - 40 * number]}
        for number in range(1, 9)
    ]
    turns = [{"task": "referring", "question": "Which?", "answer": "This.", "objects": [1, 2]}]
    packed = [one | {"counts": format_runs(np.array(one["counts"]))} for one in runs]
    talk = {"id": "talk", "ordered": True, "turns": [{"task": "chat", "question": "?", "answer": "!"}] * 2}
    rooted = lines[0] | {"image": f"here:{lines[0]['image']}", "depth": f"here:{lines[0]['depth']}"}
    return [
        *lines,
        rooted,
        talk,
        *(lines[0] | {"id": "runs", "masks": masks, "turns": turns} for masks in (runs, packed)),
    ]


def _rooted_folder(folder: Path) -> Path:
    """A folder that has itself as a root."""
    lines = _data_folder("samples.jsonl")(folder)
    info = json.loads((lines.parent / "dataset.json").read_text()) | {"roots": {"here": "."}}
    (lines.parent / "dataset.json").write_text(json.dumps(info))
    return lines


def _packed_bytes(name: str) -> bytes:
    with tempfile.TemporaryDirectory() as made:
        return (_packed_folder(name)(Path(made))).read_bytes()


def _packed_folder(name: str) -> Callable[[Path], Path]:
    def prepare(folder: Path) -> Path:
        pack_folder(scenes_folder(folder / "scenes", count=2), folder / "packed")
        return folder / "packed" / name

    return prepare


def _read_packed(file: Path) -> None:
    folder = next(parent for parent in file.parents if (parent / "dataset.json").is_file())
    for sample in FolderDataset(folder):
        dict(sample.maps)  # Reads them.


def _lines() -> st.SearchStrategy[bytes]:
    whole = json.dumps(_sample_lines()[1]).encode()
    return _both(_sample_lines()).map(lambda line: line + b"\n" + whole + b"\n")


# -- checkpoints --------------------------------------------------------------------------------------------------


def _checkpoint(folder: Path) -> Path:
    torch.manual_seed(0)
    save_checkpoint(build_model(small_recipe()), folder)
    return folder / "recipe.json"


def _format_1(folder: Path) -> Path:
    shutil.copytree(FORMAT_1, folder, dirs_exist_ok=True)
    return folder / "recipe.json"


def _component(folder: Path) -> Path:
    torch.manual_seed(0)
    config = small_recipe().stream("depth").tokenizer
    save_checkpoint(config.build(), folder, config=config)
    return folder / "component.json"


@functools.cache
def _written_component() -> Any:
    with tempfile.TemporaryDirectory() as made:
        return json.loads(_component(Path(made) / "part").read_text())


@functools.cache
def _written_recipe() -> Any:
    with tempfile.TemporaryDirectory() as made:
        return json.loads(_checkpoint(Path(made) / "model").read_text())


def _tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {"weight": torch.randn(4, 3), "bias": torch.randn(4)}


def _index(folder: Path) -> Path:
    for name, value in _tensors().items():
        (folder / f"{name}.safetensors").write_bytes(save({name: value}))
    return folder / INDEX


def _fill_linear(source: Path) -> None:
    load_tensors(torch.nn.Linear(3, 4), source)


def _pickled(value: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, **options)
    return stream.getvalue()


@functools.cache
def _aurora() -> dict[str, torch.Tensor]:
    """A VQ-VAE of two levels by AURORA's names."""
    shapes = {
        "encoder.0.weight": (4, 1, 4, 4),
        "encoder.2.weight": (8, 4, 4, 4),
        "encoder.4.net.0.weight": (8, 8, 3, 3),
        "encoder.4.net.2.weight": (8, 8, 3, 3),
        "encoder.4.net.4.weight": (8, 8, 1, 1),
        "encoder.5.weight": (4, 8, 1, 1),
        "decoder.0.weight": (8, 4, 1, 1),
        "decoder.2.net.0.weight": (8, 8, 3, 3),
        "decoder.2.net.2.weight": (8, 8, 3, 3),
        "decoder.2.net.4.weight": (8, 8, 1, 1),
        "decoder.3.weight": (8, 8, 4, 4),
        "decoder.5.weight": (8, 4, 4, 4),
        "decoder.7.weight": (1, 4, 1, 1),
        "_vq_vae._embedding": (8, 4),
    }
    outputs = {"decoder.5": 4}
    held = {name: torch.randn(shape) for name, shape in shapes.items()}
    for name in list(held):
        if name.endswith(".weight"):
            layer = name.removesuffix(".weight")
            held[f"{layer}.bias"] = torch.randn(outputs.get(layer, shapes[name][0]))
    return held


def _pickles() -> list[bytes]:
    held = _aurora()
    zero_d = {name: torch.tensor(1.0) for name in held}
    grown = held | {"_vq_vae._embedding": torch.zeros(1).expand(10**9, 4)}
    return [
        _pickled(held),
        _pickled({"weights": held}),
        _pickled(held, _use_new_zipfile_serialization=False),
        _pickled(zero_d),
        _pickled(grown),
        _pickled([1, {"a": None}]),
    ]


def _read_pickle(file: Path) -> None:
    read_pickled(file)
    convert_aurora_vqvae(file, file.parent / "out")


# -- models of others ---------------------------------------------------------------------------------------------


def _tokenizer_folder(name: str) -> Callable[[Path], Path]:
    return lambda folder: write_tokenizer(folder) / name


@functools.cache
def _tokenizer_documents(name: str) -> list[Any]:
    with tempfile.TemporaryDirectory() as made:
        return [json.loads((write_tokenizer(Path(made)) / name).read_text())]


def _read_tokenizer(file: Path) -> None:
    text = HFTextTokenizer(file.parent, CHATML, TEXT_VOCAB)
    ids = text.encode("a point <|im_end|> 深度")
    assert text.end_id not in ids and max(ids, default=0) < TEXT_VOCAB


def _model_folder(folder: Path) -> Path:
    return write_tokenizer(folder) / "config.json"


def _internvl() -> dict[str, Any]:
    return {
        "model_type": "internvl_chat",
        "vision_config": {
            **{"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 12},
            **{
                "patch_size": 2,
                "image_size": 8,
                "norm_type": "layer_norm",
                "layer_norm_eps": 1e-6,
                "qkv_bias": True,
            },
        },
        "llm_config": json.loads(model_json()) | {"rope_theta": 10000.0, "rope_scaling": None},
        **{"max_dynamic_patch": 6, "use_thumbnail": True, "downsample_ratio": 0.5, "select_layer": -1},
        "torch_dtype": "bfloat16",
    }


def _read_internvl(file: Path) -> None:
    with torch.device("meta"):
        internvl.vision(str(file.parent), weights=None).build()
        internvl.language(str(file.parent), weights=None).build()


def _read_language(file: Path) -> None:
    with torch.device("meta"):
        HFLanguageConfig.from_pretrained(str(file.parent), weights=None).build()


def _sa2va(folder: Path) -> Path:
    write_tokenizer(folder)
    (folder / "added_tokens.json").write_text('{"[SEG]": 261}')
    return folder / "config.json"


@functools.cache
def _sam() -> dict[str, Any]:
    from transformers import Sam2Config

    return json.loads(json.dumps(Sam2Config().to_dict()))


def _read_sam(file: Path) -> None:
    with torch.device("meta"):
        attrs.evolve(HFSAMSegmentationConfig.from_pretrained(str(file.parent)), weights=None).build()


@functools.cache
def _teacher() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="perceptio-teacher-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    official_teacher(folder)
    return folder


@functools.cache
def _depth_tokenizer() -> Any:
    torch.manual_seed(0)
    return small_recipe().stream("depth").tokenizer.build().eval()


def _coded(folder: Path) -> Path:
    """A data folder with depth codes beside it."""
    scenes = scenes_folder(folder / "scenes", count=2)
    write_codes(FolderDataset(scenes), _depth_tokenizer(), codes_in(scenes, "depth"))
    return scenes


@functools.cache
def _written_index() -> Any:
    with tempfile.TemporaryDirectory() as made:
        return json.loads((_coded(Path(made)) / "codes" / "depth.json").read_text())


def _read_coded(file: Path) -> None:
    folder = file.parent.parent
    read_codes(codes_in(folder, "depth"), FolderDataset(folder), _depth_tokenizer())


def _targets_record() -> dict[str, Any]:
    preprocessing = {"shorter_side": 518, "mean": [0.485, 0.456, 0.406], "resize": "bicubic"}
    teacher = {"name": "small", "weights_sha256": "0" * 64}
    return {"teacher": teacher, "preprocessing": preprocessing, "normalization": "own", "tokenizer": None}


# -- published benchmarks -------------------------------------------------------------------------------------------


def _hardblink(folder: Path) -> Path:
    hardblink(folder, sets=(3,))
    return folder / "questions" / "blink_3pointscenter_questions.jsonl"


HARDBLINK = [{"question_id": number, "image": f"{number}.png", "text": "Which?"} for number in range(3)]


def _as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _asked(suite: str) -> Callable[[Path], None]:
    """Open the data of a suite, and look at every picture."""

    def read(file: Path) -> None:
        place = file.parents[1] if suite == "hardblink" else file
        data = suite_named(suite)().open(place, None)  # type: ignore[arg-type]  # They ask nothing of the model.
        for number in range(len(data)):
            data.turns(number)
            data.sample(number)

    return read


def _cv_bench(folder: Path) -> Path:
    return cv_bench(folder) / "test_2d.jsonl"


def _parquet() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        blink(Path(folder))
        return [(Path(folder) / "Relative_Depth/val-00000-of-00001.parquet").read_bytes()]


# -- published data sets -----------------------------------------------------------------------------------------


def _refs_pickles() -> list[bytes]:
    refs = refs_of(instances(2, 1), lambda number: "train", sentences=2)
    return [python2_pickle(refs), *(pickle.dumps(refs, protocol=version) for version in (2, 4))]


def _coco(folder: Path) -> Path:
    (folder / "annotations").mkdir()
    write_pictures(folder / "train2017", (101, 102))
    return folder / "annotations/instances_train2017.json"


def _llava(folder: Path) -> Path:
    write_llava(folder)
    return folder / "llava_v1_5_mix665k.json"


def _classes(name: str) -> Callable[[Path], Path]:
    """A picture of 32x32 pixels with its class numbers and their names, of which one file is the mutant."""

    def prepare(folder: Path) -> Path:
        pictures, classes = folder / "images/training/a.jpg", folder / "annotations/training/a.png"
        write_classes([pictures], [classes], folder / "objectInfo150.txt", size=(32, 32))
        return folder / name

    return prepare


def _pairs(depth: str) -> Callable[[Path], Path]:
    """A picture of 32x32 pixels; its depth is the mutant."""

    def prepare(folder: Path) -> Path:
        write_picture(folder / "a.color.png", (32, 32))
        if depth.endswith(".npy"):
            (folder / "a.color.png").rename(folder / "a.png")
            np.save(folder / "a_depth_mask.npy", np.ones((32, 32)))
        return folder / depth

    return prepare


def _import(source: SourceConfig) -> None:
    out = Path(source.folder) / "out"
    shutil.rmtree(out, ignore_errors=True)
    import_source(source, out)
    for problem in check_folder(out).problems:  # A size that is not the picture's is found when that is read.
        assert "pixels, and its picture" in problem.message, problem


FORMATS: dict[str, Format] = {
    **{
        name: Format(mutants=byte_mutants(seeds), prepare=_file("picture"), read=read_image)
        for name, seeds in PICTURES.items()
    },
    "exif": Format(
        mutants=byte_mutants([_exif()]).map(_with_exif),
        prepare=_file("picture.jpg"),
        read=read_image,
        refuses=False,
    ),
    "data: picture": Format(
        mutants=byte_mutants([_saved(kind, size=(32, 32)) for kind in ("PNG", "JPEG", "WEBP", "BMP")]),
        prepare=_data_folder("image"),
        read=_read_data,
    ),
    "data: depth PNG": Format(
        mutants=byte_mutants([_gray("I;16", 60_000)]), prepare=_data_folder("depth"), read=_read_data
    ),
    "data: depth NPY": Format(mutants=byte_mutants(_arrays()), prepare=_depth_array, read=_read_data),
    "data: masks PNG": Format(
        mutants=byte_mutants([_gray("L", 9), _gray("I;16", 9)]),
        prepare=_data_folder("masks"),
        read=_read_data,
    ),
    "data: map PNG": Format(
        mutants=byte_mutants([_saved("PNG", size=(32, 32)), _saved("PNG", size=(32, 32), optimize=True)]),
        prepare=_map_file("png"),
        read=_read_data,
    ),
    "data: map NPY": Format(mutants=byte_mutants(_map_arrays()), prepare=_map_file("npy"), read=_read_data),
    "data: dataset.json": Format(
        mutants=_both([SceneSet.info.to_json(), SceneSet.info.to_json() | {"roots": {"here": "."}}]),
        prepare=_data_folder("dataset.json"),
        read=_read_data,
    ),
    "data: samples.jsonl": Format(mutants=_lines(), prepare=_rooted_folder, read=_read_data),
    "packed: shards.index.npz": Format(
        mutants=st.deferred(lambda: byte_mutants([_packed_bytes("shards.index.npz")])),
        prepare=_packed_folder("shards.index.npz"),
        read=_read_packed,
    ),
    "packed: a shard": Format(
        mutants=st.deferred(lambda: byte_mutants([_packed_bytes("shards/00000.tar")])),
        prepare=_packed_folder("shards/00000.tar"),
        read=_read_packed,
    ),
    "HardBLINK questions": Format(
        mutants=_both(HARDBLINK[:1]).map(lambda line: b"\n".join([line, *map(_as_json, HARDBLINK[1:])])),
        prepare=_hardblink,
        read=_asked("hardblink"),
    ),
    "CV-Bench lines": Format(
        mutants=_both(cv_bench_rows()[:1]).map(lambda line: line + b"\n"),
        prepare=_cv_bench,
        read=_asked("cv-bench"),
    ),
    "BLINK parquet": Format(
        mutants=st.deferred(lambda: byte_mutants(_parquet())),
        prepare=_file("val.parquet"),
        read=_asked("blink-depth"),
    ),
    "recipe.json": Format(
        mutants=st.deferred(lambda: _both([_written_recipe()])),
        prepare=_checkpoint,
        read=lambda file: perceptio.load(file.parent),
    ),
    "recipe.json, format 1": Format(
        mutants=st.deferred(lambda: _both([json.loads((FORMAT_1 / "recipe.json").read_text())])),
        prepare=_format_1,
        read=lambda file: perceptio.load(file.parent),
    ),
    "safetensors": Format(
        mutants=byte_mutants([save(_tensors()), save({name: v.double() for name, v in _tensors().items()})]),
        prepare=_file("model.safetensors"),
        read=_fill_linear,
    ),
    "index of weights": Format(
        mutants=_both(
            [{"metadata": {}, "weight_map": {name: f"{name}.safetensors" for name in ("weight", "bias")}}]
        ),
        prepare=_index,
        read=lambda file: _fill_linear(file.parent),
    ),
    "PyTorch file": Format(
        mutants=st.deferred(lambda: byte_mutants(_pickles())), prepare=_file("a.pt"), read=_read_pickle
    ),
    "tokenizer.json": Format(
        mutants=st.deferred(lambda: _both(_tokenizer_documents("tokenizer.json"))),
        prepare=_tokenizer_folder("tokenizer.json"),
        read=_read_tokenizer,
    ),
    "tokenizer_config.json": Format(
        mutants=st.deferred(lambda: _both(_tokenizer_documents("tokenizer_config.json"))),
        prepare=_tokenizer_folder("tokenizer_config.json"),
        read=_read_tokenizer,
    ),
    "config.json: InternVL": Format(
        mutants=_both([_internvl()]), prepare=_model_folder, read=_read_internvl, part="language:hf"
    ),
    "config.json: language": Format(
        mutants=_both([json.loads(model_json(kind, **SETTINGS.get(kind, {}))) for kind in MODEL_TYPES]),
        prepare=_model_folder,
        read=_read_language,
        part="language:hf",
    ),
    "config.json: SAM 2": Format(
        mutants=st.deferred(lambda: _both([_sam()])),
        prepare=_model_folder,
        read=_read_sam,
        part="hf_sam",
    ),
    "config.json: teacher": Format(
        mutants=st.deferred(lambda: _both([json.loads((_teacher() / "config.json").read_text())])),
        prepare=lambda folder: Path(shutil.copytree(_teacher(), folder, dirs_exist_ok=True)) / "config.json",
        read=lambda file: load_teacher(str(file.parent)),
    ),
    "component.json": Format(
        mutants=st.deferred(lambda: _both([_written_component()])),
        prepare=_component,
        read=lambda file: perceptio.load(file.parent),
    ),
    "depth_targets.json": Format(
        mutants=st.deferred(lambda: _both([_targets_record()])),
        prepare=_file("depth_targets.json"),
        read=lambda file: _check_record(file.parent, _targets_record()),
    ),
    "codes/depth.npy": Format(
        mutants=byte_mutants([_npy(np.arange(32, dtype=np.uint8).reshape(2, 16) % 8)]),
        prepare=lambda folder: _coded(folder) / "codes" / "depth.npy",
        read=_read_coded,
    ),
    "codes/depth.json": Format(
        mutants=st.deferred(lambda: _both([_written_index()])),
        prepare=lambda folder: _coded(folder) / "codes" / "depth.json",
        read=_read_coded,
    ),
    "refs(unc).p": Format(
        mutants=byte_mutants(_refs_pickles()),
        prepare=lambda folder: write_refcoco(folder, pictures=2, objects=1) / "refcoco/refs(unc).p",
        read=lambda file: _import(RefCOCOSource(folder=str(file.parents[1]))),
    ),
    "instances.json: RefCOCO": Format(
        mutants=_both([instances(2, 1)]),
        prepare=lambda folder: write_refcoco(folder, pictures=2, objects=1) / "refcoco/instances.json",
        read=lambda file: _import(RefCOCOSource(folder=str(file.parents[1]))),
    ),
    "instances.json: COCO": Format(
        mutants=_both([instances(2, 2)]),
        prepare=_coco,
        read=lambda file: _import(COCOSource(folder=str(file.parents[1]), captions=0)),
    ),
    "LLaVA's list": Format(
        mutants=st.deferred(lambda: _both([LLAVA])),
        prepare=_llava,
        read=lambda file: _import(LLaVASource(folder=str(file.parent))),
    ),
    "names of classes": Format(
        mutants=byte_mutants([b"Idx\tRatio\tName\n1\t0.2\twall\n7\t0.1\troad, way\n", b"1: wall\n7: road\n"]),
        prepare=_classes("objectInfo150.txt"),
        read=lambda file: _import(ADE20KSource(folder=str(file.parent))),
    ),
    "class numbers": Format(
        mutants=byte_mutants([_gray("L", 2)]),
        prepare=_classes("annotations/training/a.png"),
        read=lambda file: _import(ADE20KSource(folder=str(file.parents[2]))),
    ),
    "depth beside a picture: PNG": Format(
        mutants=byte_mutants([_gray("I;16", 60_000)]),
        prepare=_pairs("a.depth.png"),
        read=lambda file: _import(DepthPairsSource(folder=str(file.parent), layout="7-scenes")),
    ),
    "depth beside a picture: NPY": Format(
        mutants=byte_mutants(_arrays()),
        prepare=_pairs("a_depth.npy"),
        read=lambda file: _import(DepthPairsSource(folder=str(file.parent), layout="diode")),
    ),
    "config.json: Sa2VA": Format(
        mutants=_both([_internvl()]), prepare=_sa2va, read=lambda file: _Export.read(file.parent, "masks")
    ),
}
