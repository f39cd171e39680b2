"""Neural ratio estimation: a classifier of matching pairs."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import PRNGKeyArray
from typing_extensions import override

from inference import embeddings
from inference.estimators.base import AbstractEstimator
from inference.estimators.data import Layout
from inference.estimators.networks import RatioNetwork, ratio_network
from inference.estimators.nle import refuse_category
from inference.estimators.sampled import SampledPosterior


@dataclass(frozen=True)
class NRE(AbstractEstimator):
    """Trains a classifier to find the theta that made x among others; the posterior is drawn by NUTS.

    Source: Durkan et al., arXiv:2002.03712.

    Args:
        prior: of the parameters, without a category.
        embedding: description of the network on x; the standardised data themselves if not given.
        width: of the classifier's hidden layers.
        n_blocks: its residual blocks.
        n_contrasts: wrong thetas beside each right one, less than the batch size.
    """

    embedding: embeddings.Description = embeddings.Features()
    width: int = 64
    n_blocks: int = 2
    n_contrasts: int = 15

    def __post_init__(self):
        refuse_category(self.prior, "NRE")

    @override
    def untrained(self, key: PRNGKeyArray, layout: Layout) -> RatioNetwork:
        sizes = (self.width, self.n_blocks, self.n_contrasts)
        return ratio_network(key, self.embedding, *sizes, self.prior.n_unbounded, layout)

    @override
    def posterior(self, network: Any, layout: Layout) -> SampledPosterior:
        return SampledPosterior(prior=self.prior, network=network, layout=layout)
