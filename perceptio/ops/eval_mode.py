"""A module in eval mode that is not changed: what inference uses of a module that somebody else may be training."""

from typing import TypeVar

from torch import nn

M = TypeVar("M", bound=nn.Module)


def in_eval_mode(module: M) -> M:
    """The module itself where all of it is in eval mode, else a view of it that is.

    A view has the same parameters and buffers, not copies of them, and modules of its own around them. The mode of
    the module, which other threads see, is left alone.
    """
    if not any(part.training for part in module.modules()):
        return module
    return _view(module, {})


def _view(module: M, views: dict[nn.Module, nn.Module]) -> M:
    view: M = object.__new__(type(module))
    views[module] = view
    children: dict[str, nn.Module | None] = {}
    for name, child in module._modules.items():
        # A module may stand in several places.
        children[name] = views[child] if child in views else None if child is None else _view(child, views)
    view.__dict__.update(module.__dict__, training=False, _modules=children)
    return view
