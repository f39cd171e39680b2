"""What is trained: scalings, an embedding, and a flow or a classifier, on unbounded parameter vectors."""

import functools
from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray
from typing_extensions import override

from inference import embeddings, flows
from inference.estimators.data import Layout
from inference.flows.coupling import Conditioner

_stop = jax.lax.stop_gradient


class Scaling(eqx.Module):
    """(value - shift) / scale, entry by entry; never trained."""

    shift: Array
    scale: Array

    @classmethod
    def of(cls, values: Float[np.ndarray, "event ..."], *, identity: bool = False) -> "Scaling":
        """To mean 0 and width 1 over the events; an entry that never changes is only shifted."""
        values = np.asarray(values)
        if identity or not np.issubdtype(values.dtype, np.floating):
            return cls(jnp.zeros(values.shape[1:]), jnp.ones(values.shape[1:]))
        width = values.std(axis=0, dtype=np.float64)
        shift = values.mean(axis=0, dtype=np.float64)
        constant = width <= 1e-6 * np.maximum(np.abs(shift), 1e-30)
        kind = jnp.result_type(float)
        return cls(jnp.asarray(shift, kind), jnp.asarray(np.where(constant, 1.0, width), kind))

    def __call__(self, value: Array) -> Array:
        """Standardised."""
        if not jnp.issubdtype(value.dtype, jnp.floating):
            return value
        return (value - _stop(self.shift)) / _stop(self.scale)

    def undo(self, value: Array) -> Array:
        """Back to the value."""
        return value * _stop(self.scale) + _stop(self.shift)

    @property
    def log_volume(self) -> Float[Array, ""]:
        """Log of the product of all scales."""
        return jnp.sum(jnp.log(_stop(self.scale)))


class AbstractNetwork(eqx.Module):
    """Trained by `loss`; the prior's category, if there is one, comes as an integer beside u."""

    @abstractmethod
    def loss(
        self, key: PRNGKeyArray, u: Float[Array, "batch unbounded"], kind: Int[Array, "batch"], x: Any
    ) -> Float[Array, "batch"]:
        """What training makes small."""

    def offset(self, u: Float[Array, "batch unbounded"]) -> Float[Array, "batch"]:
        """What must be added to the loss to make it a negative log density of its target."""
        return jnp.zeros(u.shape[0], u.dtype)


def scaled(scaling: Any, x: Any) -> Any:
    """Each entry of x by its own scaling."""
    return jax.tree.map(lambda s, part: s(part), scaling, x, is_leaf=lambda node: isinstance(node, Scaling))


def _one_hot(kind: Int[Array, "batch"], n_kinds: int, dtype: Any) -> Float[Array, "batch kind"]:
    """No column where there is no category."""
    return jax.nn.one_hot(kind, n_kinds, dtype=dtype)


class PosteriorNetwork(AbstractNetwork):
    """q(kind | x) q(u | x, kind)."""

    u_scaling: Scaling
    x_scaling: Any
    embedding: Any
    flow: flows.AbstractFlow
    classifier: Conditioner | None
    n_kinds: int = eqx.field(static=True)

    def condition(self, x: Any) -> Float[Array, "batch embedding"]:
        """The embedding of each event."""
        return jax.vmap(self.embedding)(scaled(self.x_scaling, x))

    def log_kinds(self, condition: Float[Array, "batch embedding"]) -> Float[Array, "batch kind"]:
        """Log probability of each category."""
        assert self.classifier is not None
        none = jnp.zeros((1, *condition.shape[:1], 1), condition.dtype)
        return jax.nn.log_softmax(self.classifier(none, condition.T)[..., 0].T)

    def _full(self, condition: Array, kind: Array) -> Array:
        return jnp.concatenate([condition, _one_hot(kind, self.n_kinds, condition.dtype)], axis=-1)

    def _log_kind(self, condition: Array, kind: Array) -> Array:
        if not self.n_kinds:
            return jnp.zeros(condition.shape[0], condition.dtype)
        return jnp.take_along_axis(self.log_kinds(condition), kind[:, None], axis=-1)[:, 0]

    @override
    def loss(
        self, key: PRNGKeyArray, u: Float[Array, "batch unbounded"], kind: Int[Array, "batch"], x: Any
    ) -> Float[Array, "batch"]:
        condition = self.condition(x)
        loss = self.flow.loss(key, self.u_scaling(u), self._full(condition, kind))
        return loss - self._log_kind(condition, kind)

    @override
    def offset(self, u: Float[Array, "batch unbounded"]) -> Float[Array, "batch"]:
        if isinstance(self.flow, flows.MatchingFlow):  # its loss is no density
            return jnp.zeros(u.shape[0], u.dtype)
        return jnp.full(u.shape[0], self.u_scaling.log_volume)

    def log_prob(
        self,
        u: Float[Array, "batch unbounded"],
        kind: Int[Array, "batch"],
        condition: Float[Array, "batch embedding"],
    ) -> Float[Array, "batch"]:
        """Log density of u and the category."""
        inside = self.flow.log_prob(self.u_scaling(u), self._full(condition, kind))
        return inside + self._log_kind(condition, kind) - self.u_scaling.log_volume

    def sample(
        self, keys: PRNGKeyArray, condition: Float[Array, "batch embedding"], n: int
    ) -> tuple[Float[Array, "batch n unbounded"], Int[Array, "batch n"]]:
        """Draws of u and the category; one key an event."""
        size, dtype = self.flow.size, condition.dtype
        noise = jax.vmap(lambda key: jax.random.normal(key, (n, size), dtype))(keys)
        if not self.n_kinds:
            kind = jnp.zeros(noise.shape[:2], jnp.int32)
            return self.u_scaling.undo(self.flow.push(noise, condition)), kind
        log_kinds = self.log_kinds(condition)
        key_kinds = jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys)
        kind = jax.vmap(lambda key, logits: jax.random.categorical(key, logits, shape=(n,)))(
            key_kinds, log_kinds
        )
        # the category differs from draw to draw, so that every draw has a condition of its own
        each = self._full(jnp.repeat(condition, n, axis=0), kind.reshape(-1))
        u = self.flow.push(noise.reshape(-1, 1, size), each).reshape(noise.shape)
        return self.u_scaling.undo(u), kind


class LikelihoodNetwork(AbstractNetwork):
    """q(x | u), x flattened."""

    u_scaling: Scaling
    x_scaling: Any
    flow: flows.AbstractFlow

    def _flat(self, x: Any) -> Float[Array, "batch feature"]:
        return jax.vmap(embeddings.flat)(scaled(self.x_scaling, x))

    @override
    def loss(
        self, key: PRNGKeyArray, u: Float[Array, "batch unbounded"], kind: Int[Array, "batch"], x: Any
    ) -> Float[Array, "batch"]:
        del kind
        return self.flow.loss(key, self._flat(x), self.u_scaling(u))

    @override
    def offset(self, u: Float[Array, "batch unbounded"]) -> Float[Array, "batch"]:
        scalings = jax.tree.leaves(self.x_scaling, is_leaf=lambda node: isinstance(node, Scaling))
        return jnp.full(u.shape[0], sum(s.log_volume for s in scalings))

    def log_likelihood(self, u: Float[Array, "batch unbounded"], x: Any) -> Float[Array, "batch"]:
        """Log density of the standardised x."""
        return self.flow.log_prob(self._flat(x), self.u_scaling(u))


class RatioNetwork(AbstractNetwork):
    """f(u, x), which becomes log p(x | u) - log p(x) up to a constant of x.

    Source: contrastive loss, Durkan et al., arXiv:2002.03712, equation 12.
    """

    u_scaling: Scaling
    x_scaling: Any
    embedding: Any
    classifier: Conditioner
    n_contrasts: int = eqx.field(static=True)

    def log_likelihood(self, u: Float[Array, "batch unbounded"], x: Any) -> Float[Array, "batch"]:
        """f(u, x)."""
        condition = jax.vmap(self.embedding)(scaled(self.x_scaling, x))
        return self.classifier(self.u_scaling(u).T[..., None], condition.T)[0, :, 0]

    @override
    def loss(
        self, key: PRNGKeyArray, u: Float[Array, "batch unbounded"], kind: Int[Array, "batch"], x: Any
    ) -> Float[Array, "batch"]:
        del key, kind
        condition = jax.vmap(self.embedding)(scaled(self.x_scaling, x))
        u = self.u_scaling(u)
        # contrasts are the parameters of the next events of the batch; no other draw is needed
        rolled = jnp.stack([jnp.roll(u, -i, axis=0) for i in range(self.n_contrasts + 1)], axis=1)
        logits = self.classifier(jnp.moveaxis(rolled, -1, 0), condition.T)[0]
        return -jax.nn.log_softmax(logits, axis=-1)[:, 0]


def with_shared_functions(make: Any) -> Any:
    """Give networks of equal description the very same function objects.

    Functions inside a network are part of what a compilation is looked up by, and FlowJAX makes new ones with
    every flow: without this, each fit would compile again.
    """

    @functools.lru_cache(maxsize=64)
    def functions(*description: Any) -> Any:
        return eqx.partition(make(jax.random.key(0), *description), eqx.is_array)[1]

    def build(key: PRNGKeyArray, *description: Any) -> Any:
        arrays = eqx.filter(make(key, *description), eqx.is_array)
        return eqx.combine(arrays, functions(*description))

    return build


def _unit(layout: Layout) -> Any:
    """Scalings of the right structure, to be replaced."""
    each = {name: Scaling(jnp.zeros(shape), jnp.ones(shape)) for name, shape in layout.entries}
    return each[""] if set(each) == {""} else each


@with_shared_functions
def posterior_network(
    key: PRNGKeyArray,
    embedding: embeddings.Description,
    flow: flows.Description,
    n_unbounded: int,
    n_kinds: int,
    layout: Layout,
    classifier_width: int = 50,
    classifier_blocks: int = 1,
) -> PosteriorNetwork:
    """An untrained network of NPE."""
    key_embedding, key_flow, key_kinds = jax.random.split(key, 3)
    net = embedding.build(key_embedding, layout.shapes)
    n_out = jax.eval_shape(net, _example(layout)).shape[0]
    classifier = None
    if n_kinds:
        classifier = Conditioner(
            key_kinds, 1, n_out, n_kinds, width=classifier_width, n_blocks=classifier_blocks
        )
    return PosteriorNetwork(
        Scaling(jnp.zeros(n_unbounded), jnp.ones(n_unbounded)),
        _unit(layout),
        net,
        flow.build(key_flow, n_unbounded, n_out + n_kinds),
        classifier,
        n_kinds,
    )


@with_shared_functions
def likelihood_network(
    key: PRNGKeyArray, flow: flows.Description, n_unbounded: int, layout: Layout
) -> LikelihoodNetwork:
    """An untrained network of NLE."""
    scaling = Scaling(jnp.zeros(n_unbounded), jnp.ones(n_unbounded))
    return LikelihoodNetwork(scaling, _unit(layout), flow.build(key, layout.n_features, n_unbounded))


@with_shared_functions
def ratio_network(
    key: PRNGKeyArray,
    embedding: embeddings.Description,
    width: int,
    n_blocks: int,
    n_contrasts: int,
    n_unbounded: int,
    layout: Layout,
) -> RatioNetwork:
    """An untrained network of NRE."""
    key_embedding, key_classifier = jax.random.split(key)
    net = embedding.build(key_embedding, layout.shapes)
    n_out = jax.eval_shape(net, _example(layout)).shape[0]
    classifier = Conditioner(key_classifier, n_unbounded, n_out, 1, width=width, n_blocks=n_blocks)
    scaling = Scaling(jnp.zeros(n_unbounded), jnp.ones(n_unbounded))
    return RatioNetwork(scaling, _unit(layout), net, classifier, n_contrasts)


def _example(layout: Layout) -> Any:
    each = {name: jax.ShapeDtypeStruct(shape, jnp.result_type(float)) for name, shape in layout.entries}
    return each[""] if set(each) == {""} else each
