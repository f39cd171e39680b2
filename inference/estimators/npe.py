"""Neural posterior estimation: a flow of the parameters, conditioned on the embedded data."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import PRNGKeyArray
from typing_extensions import override

from inference import embeddings, flows
from inference.estimators.base import AbstractEstimator
from inference.estimators.data import Layout
from inference.estimators.networks import PosteriorNetwork, posterior_network
from inference.estimators.posterior import DirectPosterior


@dataclass(frozen=True)
class NPE(AbstractEstimator):
    """Trains -log q(theta | x).

    Args:
        prior: of the parameters; a category in it gets q(kind | x) q(theta | x, kind).
        embedding: description of the network on x; the standardised data themselves if not given.
        flow: description of the flow.
        classifier_width: hidden units of q(kind | x), > 0.
        classifier_blocks: residual blocks of it, > 0.
    """

    embedding: embeddings.Description = embeddings.Features()
    flow: flows.Description = flows.Coupling()
    classifier_width: int = 50
    classifier_blocks: int = 1

    @property
    @override
    def fits_density(self) -> bool:
        return not isinstance(self.flow, flows.FlowMatching)

    @override
    def untrained(self, key: PRNGKeyArray, layout: Layout) -> PosteriorNetwork:
        category = self.prior.category
        n_kinds = len(category.labels) if category else 0
        sizes = (self.classifier_width, self.classifier_blocks) if n_kinds else ()
        return posterior_network(
            key, self.embedding, self.flow, self.prior.n_unbounded, n_kinds, layout, *sizes
        )

    @override
    def posterior(self, network: Any, layout: Layout) -> DirectPosterior:
        return DirectPosterior(prior=self.prior, network=network, layout=layout)
