"""Networks that turn an event's data into a short vector; flax modules inside equinox ones."""

from inference.embeddings.attention import AttentionSet
from inference.embeddings.base import Description, Features, Raw, flat
from inference.embeddings.hit_pattern import HitPattern
from inference.embeddings.mlp import MLP
from inference.embeddings.sets import EventSet, SetMeans
from inference.embeddings.waveform import Waveform

__all__ = [
    "KINDS",
    "MLP",
    "AttentionSet",
    "Description",
    "EventSet",
    "Features",
    "HitPattern",
    "Raw",
    "SetMeans",
    "Waveform",
    "flat",
    "register",
]

KINDS: dict[str, type[Description]] = {
    d.kind: d for d in (Features, Raw, MLP, HitPattern, Waveform, EventSet, AttentionSet, SetMeans)
}


def register(description: type[Description]) -> type[Description]:
    """Make an embedding of your own known to files; use it as a decorator.

    Raises:
        ValueError: if its kind is taken.
    """
    if KINDS.get(description.kind, description) is not description:
        raise ValueError(f"there is an embedding of kind {description.kind!r} already")
    KINDS[description.kind] = description
    return description
