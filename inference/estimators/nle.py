"""Neural likelihood estimation: a flow of the data, conditioned on the parameters."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import PRNGKeyArray
from typing_extensions import override

from inference import flows
from inference.estimators.base import AbstractEstimator
from inference.estimators.data import Layout
from inference.estimators.networks import LikelihoodNetwork, likelihood_network
from inference.estimators.sampled import SampledPosterior


@dataclass(frozen=True)
class NLE(AbstractEstimator):
    """Trains -log q(x | theta) on the flattened data, so x should be short; the posterior is drawn by NUTS.

    Args:
        prior: of the parameters, without a category.
        flow: description of the flow.
    """

    flow: flows.Description = flows.Coupling()

    def __post_init__(self):
        refuse_category(self.prior, "NLE")
        if isinstance(self.flow, flows.FlowMatching):
            raise ValueError("NLE needs a fast density: use a coupling or an autoregressive flow")

    @override
    def untrained(self, key: PRNGKeyArray, layout: Layout) -> LikelihoodNetwork:
        return likelihood_network(key, self.flow, self.prior.n_unbounded, layout)

    @override
    def posterior(self, network: Any, layout: Layout) -> SampledPosterior:
        return SampledPosterior(prior=self.prior, network=network, layout=layout)


def refuse_category(prior: Any, estimator: str) -> None:
    """NUTS moves in continuous parameters only.

    Raises:
        ValueError: if the prior has a category.
    """
    if prior.category is not None:
        raise ValueError(
            f"{estimator} draws with NUTS, which has no step for the category {prior.names[-1]}: use NPE"
        )
