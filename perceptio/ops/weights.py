"""Write weights as safetensors, and read them strictly: all tensors of a module, or none."""

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from itertools import repeat
from pathlib import Path

import attrs
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from perceptio.errors import CheckpointError
from perceptio.ops.configuration import Configuration
from perceptio.ops.files import disk_errors
from perceptio.ops.foreign import parsing
from perceptio.ops.json_files import write_json
from perceptio.ops.paths import why_not_inside
from perceptio.ops.tensor_file import OpenTensorFile, TensorFile, are_finite

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
CHECKPOINT = "checkpoint"
"""Name of the folder, in a run's folder, that has the last saved model."""
READERS = 8
"""The maximum number of threads that read tensors; never more than torch uses."""


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers by their names in the state dict; tied ones once, by their first name."""
    held: dict[int, str] = {}
    state = module.state_dict(keep_vars=True)
    return {name: value for name, value in state.items() if held.setdefault(id(value), name) == name}


def write_weights(tensors: Mapping[str, Tensor], folder: Path, *, max_shard_size: int | str = "5GB") -> None:
    """Write tensors as safetensors: one file, or shards and their index. At most one shard is in memory twice.

    Args:
        tensors: The tensors, by name.
        folder: The folder to write to.
        max_shard_size: Maximum size of a file, in bytes or as text such as `"5GB"`.

    Raises:
        CheckpointError: The disk is full, the folder cannot be written, or `max_shard_size` is not a size.
    """
    from huggingface_hub import split_torch_state_dict_into_shards

    values = {name: value.detach() for name, value in tensors.items()}
    refused = f"max_shard_size is {max_shard_size!r}; write a whole number of bytes, or say '5GB'."
    if not isinstance(max_shard_size, str) and (type(max_shard_size) is not int or max_shard_size < 1):
        raise CheckpointError(refused)
    with parsing(CheckpointError, refused):
        split = split_torch_state_dict_into_shards(values, max_shard_size=max_shard_size)
    with disk_errors(folder, CheckpointError):
        for file, names in split.filename_to_tensors.items():
            shard = {name: values[name].contiguous().cpu() for name in names}
            save_file(shard, folder / file, metadata={"format": "pt"})
        if split.is_sharded:
            index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
            write_json(folder / INDEX, index, error=CheckpointError)


@attrs.frozen
class Slice:
    """A tensor of a module that is a slice of a tensor in a file, such as the keys of a fused `qkv`.

    Attributes:
        name: The tensor's name in the module.
        take: Returns the slice as a view of the whole tensor. It is called with a tensor without values first.
    """

    name: str
    take: Callable[[Tensor], Tensor]


Rename = Callable[[str], str | Sequence[Slice] | None]
"""Maps the name of a tensor in a file to its name in a module, to its slices, or to None to leave it out."""


def load_tensors(
    module: nn.Module | Mapping[str, Tensor],
    sources: Path | Sequence[Path] | Mapping[str, Tensor],
    rename: Rename | Mapping[str, str | None] | None = None,
    *,
    elsewhere: Collection[str] = (),
) -> list[str]:
    """Fill a module with tensors from files: all of its tensors, or none.

    All names and shapes are compared before the first value is copied. Values are then read file by file directly
    into place, in the module's dtypes. Tied tensors may occur once, or several times if they are equal.

    Args:
        module: The module to fill, not on the meta device; or a mapping of its tensors under other names, such as the
            names in the files.
        sources: Safetensors files, or folders with `model.safetensors` or with shards and their index; or the tensors
            themselves, such as those returned by `read_pickled`.
        rename: Maps names in the files to names in the module. A mapping leaves names it does not list unchanged.
        elsewhere: Names in the module that get their values elsewhere and may be missing from the files.

    Returns:
        The names in the module of tensors with values that are not finite.

    Raises:
        CheckpointError: A file is missing or broken, the module is on the meta device, or the tensors do not fit the
            module; the message names all that do not fit.
    """
    wanted = _wanted(module)
    if any(value.is_meta for value in wanted.values()):
        raise CheckpointError(
            f"{_name(module)} lies on the meta device, which holds no values: build it on the CPU before its weights "
            "are read."
        )
    arrivals = _arrivals(module, wanted, sources, rename, elsewhere)
    infinite = set()
    for shard in dict.fromkeys(arrival.shard for arrival in arrivals.values()):
        coming = {target: arrival for target, arrival in arrivals.items() if arrival.shard is shard}
        places = [wanted[target] for target in coming]
        # Threads help: neither reading a file nor operations on whole tensors hold the interpreter's lock.
        with shard.opened() as opened, ThreadPoolExecutor(min(READERS, torch.get_num_threads())) as threads:
            finite = threads.map(_Arrival.read_into, coming.values(), places, repeat(opened))
            infinite |= {target for target, so in zip(coming, finite, strict=True) if not so}
    return [name for name in wanted if name in infinite]


def check_tensors(
    module: nn.Module | Mapping[str, Tensor],
    sources: Path | Sequence[Path] | Mapping[str, Tensor],
    rename: Rename | Mapping[str, str | None] | None = None,
    *,
    elsewhere: Collection[str] = (),
) -> None:
    """Compare names and shapes as `load_tensors` does; the module may be on the meta device.

    Raises:
        CheckpointError: A file is missing or broken, or the tensors do not fit the module; the message names all that
            do not fit.
    """
    _arrivals(module, _wanted(module), sources, rename, elsewhere)


def _wanted(module: nn.Module | Mapping[str, Tensor]) -> dict[str, Tensor]:
    return dict(module.state_dict() if isinstance(module, nn.Module) else module)


def _arrivals(
    module: nn.Module | Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    sources: Path | Sequence[Path] | Mapping[str, Tensor],
    rename: Rename | Mapping[str, str | None] | None,
    elsewhere: Collection[str],
) -> dict[str, "_Arrival"]:
    """Compare names and shapes, and return the source of each tensor of a module."""
    shards = _shards_of(sources)
    arrivals: dict[str, _Arrival] = {}
    problems: list[str] = []
    for shard in shards:
        for source, header in shard.headers.items():
            for part in _slices(source, rename):
                arrival = _Arrival(shard, source, part)
                if part.name in arrivals:
                    problems.append(f"{arrival} comes twice, the first time as {arrivals[part.name]}")
                elif problem := arrival.problem(header, wanted):
                    problems.append(problem)
                arrivals[part.name] = arrival
    problems += _missing(wanted, {*arrivals, *elsewhere})
    problems = problems or _torn_ties(wanted, arrivals)
    if problems:
        where = ", ".join(shard.where for shard in shards)
        raise CheckpointError(f"{where} does not fit {_name(module)}: {'; '.join(problems)}.")
    return arrivals


def _name(module: nn.Module | Mapping[str, Tensor]) -> str:
    return type(module).__name__ if isinstance(module, nn.Module) else "the model"


def read_headers(sources: Path | Sequence[Path]) -> dict[str, Tensor]:
    """Return the tensors of safetensors files, or of folders of them, by name and without values.

    Raises:
        CheckpointError: A file is missing or broken.
    """
    return {name: header for shard in _shards_of(sources) for name, header in shard.headers.items()}


@attrs.frozen(eq=False)
class _Shard:
    """The tensors of one source: without values in `headers`, and with values while it is `opened`."""

    where: str
    headers: dict[str, Tensor]
    opened: Callable[[], AbstractContextManager["OpenTensorFile | _GivenTensors"]]


@attrs.frozen(eq=False)
class _GivenTensors:
    """Tensors in memory, with the same methods as an open file."""

    tensors: Mapping[str, Tensor]

    def read(self, name: str) -> Tensor:
        return self.tensors[name]

    def read_into(self, name: str, place: Tensor) -> bool:
        place.detach().copy_(self.tensors[name])
        return are_finite(place)


@attrs.frozen(eq=False)
class _Arrival:
    """A tensor of a shard, or a slice of one, and the tensor of the module that it fills."""

    shard: _Shard
    source: str
    target: Slice

    def __str__(self) -> str:
        return self.source if self.source == self.target.name else f"{self.source} (here {self.target.name})"

    def read(self, opened: "OpenTensorFile | _GivenTensors") -> Tensor:
        return self.target.take(opened.read(self.source))

    def read_into(self, place: Tensor, opened: "OpenTensorFile | _GivenTensors") -> bool:
        if self.target.take is _whole:
            return opened.read_into(self.source, place)
        place.detach().copy_(self.read(opened))
        return are_finite(place)

    def problem(self, header: Tensor, wanted: Mapping[str, Tensor]) -> str | None:
        """Return why it does not fit the module; None if it fits."""
        if self.target.name not in wanted:
            return f"{self} is not a part of this model"
        place = wanted[self.target.name]
        if header.is_floating_point() != place.is_floating_point():
            kinds = ("integers", "floating point numbers")
            return f"{self} holds {kinds[header.is_floating_point()]} instead of {place.dtype}"
        try:
            shape = tuple(self.target.take(header).shape)
        except Exception:
            return f"{self} has shape {tuple(header.shape)}, which cannot be divided as it should be"
        return None if shape == place.shape else f"{self} has shape {shape} instead of {tuple(place.shape)}"


def _slices(source: str, rename: Rename | Mapping[str, str | None] | None) -> Sequence[Slice]:
    target: str | Sequence[Slice] | None
    if rename is None:
        target = source
    elif isinstance(rename, Mapping):
        target = rename.get(source, source)
    else:
        target = rename(source)
    if target is None:
        return ()
    return (Slice(target, _whole),) if isinstance(target, str) else target


def _whole(tensor: Tensor) -> Tensor:
    return tensor


def _shards_of(sources: Path | Sequence[Path] | Mapping[str, Tensor]) -> list[_Shard]:
    if isinstance(sources, Mapping):
        headers = {name: value.to("meta") for name, value in sources.items()}
        return [_Shard("The given state dict", headers, lambda: nullcontext(_GivenTensors(sources)))]
    paths = [sources] if isinstance(sources, Path) else sources
    files = [TensorFile(file) for path in paths for file in _files_of(path)]
    return [_Shard(str(file.path), file.headers, file.opened) for file in files]


def _files_of(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    if (path / INDEX).is_file():
        files = indexed_files(path)
        if absent := [file.name for file in files if not file.is_file()]:
            raise CheckpointError(f"{path / INDEX} names files that are not there: {', '.join(absent[:20])}.")
        return files
    if (path / WEIGHTS).is_file():
        return [path / WEIGHTS]
    raise CheckpointError(f"There are no weights in {path}: neither {WEIGHTS} nor {INDEX} is in it.")


def indexed_files(folder: Path) -> list[Path]:
    """Return the files that a folder's index names, whether they exist or not.

    Names must not lead out of the folder. A file may be a symbolic link, as all files in the hub's cache are.

    Raises:
        CheckpointError: The index cannot be read or names no file, or a name in it leads out of the folder.
    """
    index = Configuration.read(folder / INDEX, CheckpointError, "copy or download it again")
    names = index.section("weight_map").values.values()
    if not names:
        raise CheckpointError(f"{folder / INDEX} names no file: copy or download it again.")
    for name in names:
        if why := why_not_inside(name):
            raise CheckpointError(f"{folder / INDEX} names the file {str(name)[:80]!r}, which {why}.")
    return [folder / name for name in sorted(set(names))]


def _place(value: Tensor) -> tuple[int, int, torch.Size]:
    """Return an identity of a tensor's memory, with or without values; tied tensors share it."""
    return value.untyped_storage()._cdata, int(value.storage_offset()), value.shape


def _missing(wanted: Mapping[str, Tensor], coming: Collection[str]) -> list[str]:
    filled = {_place(wanted[name]) for name in coming if name in wanted}
    return [
        f"{name} is missing"
        for name, value in wanted.items()
        if name not in coming and not (value.numel() and _place(value) in filled)
    ]


def _torn_ties(wanted: Mapping[str, Tensor], arrivals: Mapping[str, _Arrival]) -> list[str]:
    """Return problems of tensors that are tied in the module and have different values in the files."""
    first: dict[tuple[int, int, torch.Size], _Arrival] = {}
    problems: list[str] = []
    for name, arrival in arrivals.items():
        other = first.setdefault(_place(wanted[name]), arrival)
        if other is arrival or not wanted[name].numel():
            continue
        with arrival.shard.opened() as one, other.shard.opened() as another:
            if not torch.equal(arrival.read(one), other.read(another)):
                problems.append(f"{arrival} and {other} differ, and are one tensor here")
    return problems
