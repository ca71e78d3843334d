"""The memory of tensors that are alive, counted as operations make them and as they are forgotten; and operations on
tensors that have shapes and no values, which take no memory and no time.
"""

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


class LiveMemory(TorchDispatchMode):
    """Counts the bytes of all tensors that operations make while it is entered, each storage once.

    Of an operation that takes a tensor without values, the result has none either: it is found out what shape it has,
    and nothing is computed. So is all that lies on another device than the CPU. Everything else is computed as ever:
    what is only known of the data has its values, and a model whose parameters have none runs on it. What is counted
    is the same with values and without. Memory that a kernel takes for itself while it runs is not seen.

    Example:
        with LiveMemory() as memory:
            memory.count(model.parameters())
            loss = model(memory.without_values(inputs)).sum()
            loss.backward()
        print(memory.peak)

    Attributes:
        now: Bytes that are alive.
        peak: The most that were.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._held: set[int] = set()
        self._shapes = FakeTensorMode(allow_non_fake_inputs=True)

    def count(self, tensors: Iterable[Tensor]) -> None:
        """Count tensors that were made before."""
        for tensor in tensors:
            self._count(tensor.untyped_storage())

    def without_values(self, tensor: Tensor, device: torch.device | str = "cpu") -> Tensor:
        """A tensor of the same shape and type that has no values."""
        with self._shapes:
            return torch.empty(tensor.shape, dtype=tensor.dtype, device=device)

    def __torch_dispatch__(
        self, operation: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation, with values or without, and count what it makes."""
        kwargs = kwargs or {}
        if any(_has_no_values(one) for one in tree_iter((args, kwargs))):
            with self._shapes:
                result = operation(*args, **kwargs)
        else:
            result = operation(*args, **kwargs)
        self.count(one for one in tree_iter(result) if isinstance(one, Tensor))
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._held:
            self._held.add(key)
            weakref.finalize(storage, self._forget, key, size)
            self.now += size
            self.peak = max(self.peak, self.now)

    def _forget(self, key: int, size: int) -> None:
        self._held.remove(key)
        self.now -= size


def _has_no_values(argument: Any) -> bool:
    """Whether an argument of an operation is, or asks for, a tensor without values."""
    if isinstance(argument, torch.device):
        return argument.type != "cpu"
    return isinstance(argument, FakeTensor)
