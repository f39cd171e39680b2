"""Products over neighbours of one segment, by an associative scan."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def product_before(value: Float[Array, "row"], begins: Bool[Array, "row"]) -> Float[Array, "row"]:
    """Product of the values before each row in its segment; 1 for the first. Gradient: exact.

    Args:
        value: of each row.
        begins: whether a segment begins with the row.
    """

    def combine(one, other):
        (before, began), (after, begins) = one, other
        return jnp.where(begins, after, before * after), began | begins

    product, _ = jax.lax.associative_scan(combine, (value, begins))
    before = jnp.concatenate([jnp.ones_like(product[:1]), product[:-1]])
    return jnp.where(begins, 1.0, before)
