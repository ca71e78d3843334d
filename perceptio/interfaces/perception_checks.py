"""The checks around the methods of perception tokenizers; see `Checked.checks`.

Shapes: N blocks or objects, T targets, L codes of a block, l codes of a group, m rows, P width of a row.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from perceptio.errors import DataError, InterfaceError, quoted
from perceptio.interfaces.component import described
from perceptio.interfaces.tokens import Codes


def codes_problem(codes_NL: Any, written: Codes) -> str | None:
    """Say why a value is not valid codes of a stream; None if it is valid.

    Args:
        codes_NL: Any value. On the meta device, which holds no values, only dtype and shape are checked.
        written: The codebooks and groups of the stream.

    Returns:
        Words that complete "codes that ...".
    """
    if not isinstance(codes_NL, Tensor):
        return f"are {quoted(codes_NL)} and no tensor"
    if codes_NL.dtype != torch.int64 or codes_NL.ndim != 2 or codes_NL.shape[1] != written.length:
        return f"are {described(codes_NL)} and not int64 [N, {written.length}]"
    if codes_NL.is_meta or not codes_NL.numel():
        return None
    groups = torch.split(codes_NL, [group.length for group in written.groups], 1)
    ranges = torch.stack([torch.stack(group_Nl.aminmax()) for group_Nl in groups])
    for group, (low, high) in zip(written.groups, ranges.tolist(), strict=True):
        size = written.codebook_sizes[group.codebook]
        if low < 0 or high >= size:
            return f"go from {low} to {high} and not from 0 to {size - 1}; -1 says that there is no code"
    return None


def checked_targets(targets: Callable[[Any, Sequence[Any]], Any]) -> Callable[[Any, Sequence[Any]], Any]:
    """Check that there is one target per sample."""

    @functools.wraps(targets)
    def checked(self: Any, raw: Sequence[Any]) -> Any:
        made = targets(self, raw)
        if isinstance(made, list | tuple) or not hasattr(made, "__len__") or len(made) != len(raw):
            found = f"a {type(made).__name__} of {len(made)}" if isinstance(made, list) else described(made)
            raise InterfaceError(
                f"{self.known_as}.targets made {found} of {len(raw)} samples; it must make a tensor with a row for "
                "each, or another value that tensors can index so."
            )
        return made

    return checked


def checked_to_codes(to_codes: Callable[[Any, Any], Tensor]) -> Callable[[Any, Any], Tensor]:
    """Check that the codes fit the spec, with one row per target."""

    @functools.wraps(to_codes)
    def checked(self: Any, targets: Any) -> Tensor:
        codes_TL = to_codes(self, targets)
        problem = codes_problem(codes_TL, self.spec.stream.written)
        if not problem and len(codes_TL) != len(targets):
            problem = f"are of {len(codes_TL)} targets and not of the {len(targets)} that it was given"
        if problem:
            raise InterfaceError(f"{self.known_as}.to_codes made codes that {problem}.")
        return codes_TL

    return checked


def checked_from_codes(from_codes: Callable[..., Any]) -> Callable[..., Any]:
    """Check that the given codes fit the spec."""

    @functools.wraps(from_codes)
    def checked(self: Any, codes_NL: Tensor, *pictures: Any, **named: Any) -> Any:
        problem = codes_problem(codes_NL, self.spec.stream.written)
        if problem:
            raise DataError(f"{type(self).__name__}.from_codes was given codes that {problem}.")
        return from_codes(self, codes_NL, *pictures, **named)

    return checked


def checked_from_rows(from_rows: Callable[..., Any]) -> Callable[..., Any]:
    """Check that the given rows have the shape that the spec says."""

    @functools.wraps(from_rows)
    def checked(self: Any, rows_NmP: Tensor, *pictures: Any, **named: Any) -> Any:
        written = self.spec.stream.written
        shape = (written.num_rows, written.width)
        if rows_NmP.ndim != 3 or tuple(rows_NmP.shape[1:]) != shape:
            raise InterfaceError(
                f"{type(self).__name__}.from_rows was given {described(rows_NmP)} and not "
                f"[N, {shape[0]}, {shape[1]}]."
            )
        return from_rows(self, rows_NmP, *pictures, **named)

    return checked


def checked_shown(shown: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    """Check that the result is a list with one array or other value, but no tensor, per image."""

    @functools.wraps(shown)
    def checked(self: Any, decoded: Any, sizes: Sequence[tuple[int, int]]) -> list[Any]:
        made = shown(self, decoded, sizes)
        if not isinstance(made, list) or len(made) != len(sizes):
            found = f"a list of {len(made)}" if isinstance(made, list) else described(made)
            raise InterfaceError(f"{self.known_as}.shown made {found}; it must make a list of {len(sizes)}.")
        if any(isinstance(one, Tensor) for one in made):
            raise InterfaceError(
                f"{self.known_as}.shown made tensors; users are given arrays: call .cpu().numpy()."
            )
        return made

    return checked


def checked_compare(compare: Callable[..., Mapping[str, Tensor]]) -> Callable[..., Mapping[str, Tensor]]:
    """Check that each metric has one number per target."""

    @functools.wraps(compare)
    def checked(self: Any, decoded: Any, targets: Any) -> Mapping[str, Tensor]:
        figures, shape = compare(self, decoded, targets), (len(targets),)
        if not isinstance(figures, Mapping):
            raise InterfaceError(
                f"{self.known_as}.compare made {described(figures)}; it must make figures by name, such as "
                f'{{"absolute_error": tensor [{shape[0]}]}}.'
            )
        for name, values_N in figures.items():
            if not isinstance(values_N, Tensor) or tuple(values_N.shape) != shape:
                raise InterfaceError(
                    f"{self.known_as}.compare made {described(values_N)} of {name!r}; it must make a number for each "
                    f"target, [{shape[0]}]."
                )
        return figures

    return checked


def checked_values_at(values_at: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Check that there is one number per point. Its range is not checked, which would wait for the device."""

    @functools.wraps(values_at)
    def checked(self: Any, decoded: Any, points_NP2: Tensor) -> Tensor:
        values_NP, shape = values_at(self, decoded, points_NP2), tuple(points_NP2.shape[:2])
        wrong = not isinstance(values_NP, Tensor) or tuple(values_NP.shape) != shape
        if wrong or not values_NP.is_floating_point():
            raise InterfaceError(
                f"{self.known_as}.values_at made {described(values_NP)} of points {list(points_NP2.shape)}; it must "
                f"make a number for each: floating-point {list(shape)}."
            )
        return values_NP

    return checked


def checked_meanings(
    code_meanings: Callable[[Any], tuple[Any, ...]],
) -> Callable[[Any], tuple[Any, ...]]:
    """Check that there is one entry per codebook, with one row per code."""

    @functools.wraps(code_meanings)
    def checked(self: Any) -> tuple[Any, ...]:
        meanings, written = code_meanings(self), self.spec.stream.written
        sizes = written.codebook_sizes if isinstance(written, Codes) else ()
        if len(meanings) != len(sizes):
            raise InterfaceError(
                f"{self.known_as}.code_meanings made {len(meanings)} entries; it must make one for each codebook, "
                f"{len(sizes)}."
            )
        for size, meaning in zip(sizes, meanings, strict=True):
            for name, values in (("values_KV", meaning.values_KV), ("vectors_KC", meaning.vectors_KC)):
                if values is not None and (values.ndim != 2 or len(values) != size):
                    raise InterfaceError(
                        f"{self.known_as}.code_meanings made {name} that are {described(values)}; it must make a row "
                        f"for each code, [{size}, ...]."
                    )
        return meanings

    return checked
