"""Flow-matching posterior estimation: NPE whose flow is trained by matching velocities."""

from dataclasses import dataclass

from inference import flows
from inference.estimators.npe import NPE


@dataclass(frozen=True)
class FMPE(NPE):
    """Trains the velocity field; densities and draws solve an ordinary differential equation.

    Args:
        prior: of the parameters.
        embedding: description of the network on x; the standardised data themselves if not given.
        flow: description of the field.
    """

    flow: flows.Description = flows.FlowMatching()
