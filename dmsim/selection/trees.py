"""Cuts, curves and sets of cuts as pytrees of JAX, as soon as JAX is there."""

import sys
from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar, cast

_T = TypeVar("_T")

_WAITING: list[tuple[type, tuple[str, ...], tuple[str, ...]]] = []


def tree(*, leaves: tuple[str, ...]) -> Callable[[type[_T]], type[_T]]:
    """Make a dataclass a pytree: `leaves` can be differentiated, its other fields are static.

    The registration waits until JAX is loaded and `register_trees` is called; every new cut calls it.
    """

    def mark(cls: type[_T]) -> type[_T]:
        static = tuple(field.name for field in fields(cast(Any, cls)) if field.name not in leaves)
        _WAITING.append((cls, leaves, static))
        register_trees()
        return cls

    return mark


def register_trees() -> None:
    """Tell JAX, if it is loaded, of the classes that it does not know yet.

    Call it where JAX is loaded after the last cut was made; `import inference.tuning` does.
    """
    jax = sys.modules.get("jax")
    if jax is None or not hasattr(jax, "tree_util"):  # not loaded, or half way
        return
    while _WAITING:
        _register(jax.tree_util, *_WAITING.pop())


def _register(tree_util: Any, cls: type, leaves: tuple[str, ...], static: tuple[str, ...]) -> None:
    def flatten(value: Any) -> tuple[tuple, tuple]:
        return tuple(getattr(value, name) for name in leaves), tuple(getattr(value, name) for name in static)

    def flatten_with_keys(value: Any) -> tuple[tuple, tuple]:
        children, rest = flatten(value)
        return tuple(zip(map(tree_util.GetAttrKey, leaves), children, strict=True)), rest

    def unflatten(rest: tuple, children: tuple) -> Any:
        # without __init__: JAX puts tracers and placeholders in, which no check would pass
        value = object.__new__(cls)
        for name, part in (*zip(leaves, children, strict=True), *zip(static, rest, strict=True)):
            object.__setattr__(value, name, part)
        return value

    tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
