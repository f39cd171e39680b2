"""NumPy or jax.numpy, whichever the values are of: the same lines serve a file of events and a gradient."""

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Float


def namespace(*values: Any) -> ModuleType:
    """jax.numpy if any of the values is an array of JAX, else NumPy; JAX is not loaded to find out."""
    jax = sys.modules.get("jax")
    if jax is not None and any(isinstance(value, jax.Array) for value in values):
        return sys.modules["jax.numpy"]
    return np


def is_concrete(value: Any) -> bool:
    """Whether the value can be looked at: it is no tracer of JAX and no placeholder of a tree."""
    jax = sys.modules.get("jax")
    if jax is not None and isinstance(value, jax.core.Tracer):
        return False
    return isinstance(value, int | float | np.ndarray | np.generic) or namespace(value) is not np


def log_sigmoid(x: Any) -> Any:
    """Log of 1 / (1 + exp(-x)), finite for every finite x. Gradient: exact."""
    # min(x, 0) - log1p(exp(-|x|)): neither exp can overflow, and the gradient of |x| at 0 cancels
    xp = namespace(x)
    if xp is np:
        return np.minimum(x, 0.0) - np.log1p(np.exp(-np.abs(x)))
    import jax  # noqa: PLC0415 - it is there already

    return jax.nn.log_sigmoid(x)


def safe_hypot(x: Any, y: Any) -> Float[Any, "event"]:
    """Length of (x, y). Gradient: exact; 0 at the origin, where it has none."""
    xp = namespace(x, y)
    squared = x * x + y * y
    away = squared > 0
    return xp.where(away, xp.sqrt(xp.where(away, squared, 1.0)), squared)


def repeat(n: int, step: Callable[[Any], Any], state: Any) -> Any:
    """State after n steps; one compiled step where it is of JAX."""
    if namespace(*(state if isinstance(state, tuple) else (state,))) is not np:
        import jax  # noqa: PLC0415 - it is there already

        return jax.lax.fori_loop(0, n, lambda _, held: step(held), state)
    for _ in range(n):
        state = step(state)
    return state


def stop_gradient(x: Any) -> Any:
    """The value without its gradient; NumPy's have none."""
    if namespace(x) is np:
        return x
    import jax  # noqa: PLC0415 - it is there already

    return jax.lax.stop_gradient(x)
