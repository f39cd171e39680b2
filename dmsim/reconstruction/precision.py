"""Double precision for a few lines, in every supported version of JAX.

What is computed in double and kept in single does not depend on the processor's instructions.
"""

try:
    from jax import enable_x64
except ImportError:  # before jax 0.8
    from jax.experimental import enable_x64  # pyright: ignore[reportAttributeAccessIssue]

__all__ = ["enable_x64"]
