"""Weights: written as safetensors, and read strictly."""

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
"""In the folder of a run: the model as it was last saved."""
READERS = 8
"""The maximum number of threads that read tensors; never more than torch uses."""


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """A module's parameters and buffers, by the names `load_state_dict` takes; tied ones once, by their first."""
    held: dict[int, str] = {}
    state = module.state_dict(keep_vars=True)
    return {name: value for name, value in state.items() if held.setdefault(id(value), name) == name}


def write_weights(tensors: Mapping[str, Tensor], folder: Path, *, max_shard_size: int | str = "5GB") -> None:
    """Write tensors as safetensors: one file, or shards and their index. Never more than a shard is held twice.

    Args:
        tensors: What is written, by name.
        folder: Where.
        max_shard_size: Bytes, or a text such as `"5GB"`, above which another file is begun.

    Raises:
        CheckpointError: The disk is full, the place cannot be written, or `max_shard_size` is no size.
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

    `take` gives the slice as a view of the whole; it is tried on a tensor without values first.
    """

    name: str
    take: Callable[[Tensor], Tensor]


Rename = Callable[[str], str | Sequence[Slice] | None]
"""The name in a module of a tensor in a file; None for a tensor that is left out on purpose; or its slices."""


def load_tensors(
    module: nn.Module | Mapping[str, Tensor],
    sources: Path | Sequence[Path] | Mapping[str, Tensor],
    rename: Rename | Mapping[str, str | None] | None = None,
    *,
    elsewhere: Collection[str] = (),
) -> list[str]:
    """Fill a module with the tensors of files, each of them, or none.

    All names and shapes are compared before the first value moves. Values then go file by file straight into place,
    in the module's dtypes. Tied tensors may come once, or several times if they are equal.

    Args:
        module: Where the values go; on a real device. Or its tensors by other names, such as those of the files.
        sources: Safetensors files, or folders that hold `model.safetensors` or its shards and their index; or the
            tensors themselves, for instance those of `read_pickled`.
        rename: From names in the files to names in the module; a mapping leaves the names it lacks as they are.
        elsewhere: Names in the module that get their values from somewhere else and need not be there.

    Returns:
        The names in the module of tensors that came with values that are not finite.

    Raises:
        CheckpointError: A file is missing or broken, or the tensors are not the module's: all are named.
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
        # Neither reading nor what is done with a whole tensor holds the interpreter's lock.
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
    """Compare names and shapes as `load_tensors` does, of a module that may lie on the meta device.

    Raises:
        CheckpointError: A file is missing or broken, or the tensors are not the module's: all are named.
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
    """Where each tensor of a module comes from, when names and shapes have been compared."""
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
    """The tensors of safetensors files, or of folders of them, by name and without values.

    Raises:
        CheckpointError: A file is missing or broken.
    """
    return {name: header for shard in _shards_of(sources) for name, header in shard.headers.items()}


@attrs.frozen(eq=False)
class _Shard:
    """Tensors in one place: without values in `headers`, and with them while it is `opened`."""

    where: str
    headers: dict[str, Tensor]
    opened: Callable[[], AbstractContextManager["OpenTensorFile | _GivenTensors"]]


@attrs.frozen(eq=False)
class _GivenTensors:
    """Tensors that are in memory, read as those of a file are."""

    tensors: Mapping[str, Tensor]

    def read(self, name: str) -> Tensor:
        return self.tensors[name]

    def read_into(self, name: str, place: Tensor) -> bool:
        place.detach().copy_(self.tensors[name])
        return are_finite(place)


@attrs.frozen(eq=False)
class _Arrival:
    """A tensor of the module on its way from a shard."""

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
        """Why it cannot go into its place, if it cannot."""
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
    """The files that a folder's index names, whether they are there or not.

    A name stays in the folder. A file may be a symbolic link, as all are in the hub's cache.

    Raises:
        CheckpointError: The index cannot be read, or a name in it leads out of the folder.
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
    """Where a tensor lies, with or without values: tied tensors lie in one place."""
    return value.untyped_storage()._cdata, int(value.storage_offset()), value.shape


def _missing(wanted: Mapping[str, Tensor], coming: Collection[str]) -> list[str]:
    filled = {_place(wanted[name]) for name in coming if name in wanted}
    return [
        f"{name} is missing"
        for name, value in wanted.items()
        if name not in coming and not (value.numel() and _place(value) in filled)
    ]


def _torn_ties(wanted: Mapping[str, Tensor], arrivals: Mapping[str, _Arrival]) -> list[str]:
    """Tensors that are one in the module and come with several values."""
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
