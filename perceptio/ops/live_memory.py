"""The memory of live tensors, counted as operations create them and as they are freed; and operations on tensors with
shapes but no values, which take neither memory nor time.
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
    """Counts the bytes of all tensors that operations create while it is active, each storage once.

    If an operation has an input without values, only the shape of its result is inferred, and the result has no
    values, either. The same applies to tensors on other devices than the CPU. All other operations are computed as
    usual, so values that depend only on the data exist, and a model whose parameters have no values runs on them.
    The count is the same with and without values. Temporary memory inside a kernel is not counted.

    Example:
        with LiveMemory() as memory:
            memory.count(model.parameters())
            loss = model(memory.without_values(inputs)).sum()
            loss.backward()
        print(memory.peak)

    Attributes:
        now: Bytes that are live now.
        peak: Maximum of live bytes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._held: set[int] = set()
        self._shapes = FakeTensorMode(allow_non_fake_inputs=True)

    def count(self, tensors: Iterable[Tensor]) -> None:
        """Count tensors that were created earlier."""
        for tensor in tensors:
            self._count(tensor.untyped_storage())

    def without_values(self, tensor: Tensor, device: torch.device | str = "cpu") -> Tensor:
        """Return a tensor of the same shape and type without values."""
        with self._shapes:
            return torch.empty(tensor.shape, dtype=tensor.dtype, device=device)

    def __torch_dispatch__(
        self, operation: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation, with values or without, and count what it creates."""
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
    """Return whether an argument of an operation is, or requests, a tensor without values."""
    if isinstance(argument, torch.device):
        return argument.type != "cpu"
    return isinstance(argument, FakeTensor)
