"""Training curves: did the loss end finite, settled, and alike on seen and unseen simulations?"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from inference.diagnostics.check import Check

LARGEST_FALL = 0.02  # nats; assumed: what a tenth of the training more may still gain
_FEWEST = 4  # entries of a curve: less is no curve
LARGEST_GAP = 0.1  # nats; assumed: above it the network has learned its simulations by heart


def check_training(history: Mapping[str, Float[np.ndarray, "step"]]) -> list[Check]:
    """Checks on the last tenth of the curves, or their last entry where there are few.

    Args:
        history: "training" loss a step or an epoch, in nats an event, and where there is one "validation".

    Raises:
        ValueError: if there is no training loss, or fewer than 4 entries.
    """
    if "training" not in history:
        raise ValueError(f"history has {', '.join(history) or 'nothing'}: must have 'training'")
    curves = {
        name: np.asarray(history[name], float) for name in ("training", "validation") if name in history
    }
    for name, curve in curves.items():
        if len(curve) < _FEWEST:
            raise ValueError(f"{name} loss has {len(curve)} entries: must be {_FEWEST} at least")
    wrong = sum(int(np.sum(~np.isfinite(curve))) for curve in curves.values())
    checks = [Check.within("training finite", wrong, high=0, rate=0, detail="losses that are not finite")]
    decisive = "validation" if "validation" in curves else "training"
    curve = curves[decisive]
    tenth = max(len(curve) // 10, 1)
    last, before = curve[-tenth:].mean(), curve[-2 * tenth : -tenth].mean()
    words = f"nats by which the {decisive} loss fell over its last {tenth} of {len(curve)} entries"
    checks.append(Check.within("training settled", before - last, high=LARGEST_FALL, rate=0, detail=words))
    if len(curves) > 1:
        seen = curves["training"]
        gap = last - seen[-max(len(seen) // 10, 1) :].mean()
        words = "nats between validation and training loss at the end"
        checks.append(Check.within("training gap", gap, high=LARGEST_GAP, rate=0, detail=words))
    return checks
