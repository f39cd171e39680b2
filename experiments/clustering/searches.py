"""What the gradient is compared with: scans, TPE and CMA-ES on the hard loss, from the given settings."""

import time
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float

from dmsim.detector import Detector
from inference.tuning.clustering_loss import SCOPE
from inference.tuning.clustering_parameters import Parameters
from inference.tuning.clustering_samples import Batch, added, hard_errors


class HardLoss:
    """The loss of the hard reading at a vector of steps; remembers the best."""

    def __init__(self, detector: Detector, parameters: Parameters, batches: Sequence[Batch], to_given: float):
        self.detector, self.parameters, self.batches = detector, parameters, batches
        self.to_given = to_given
        self.n, self.begin = 0, time.process_time()
        self.best, self.vector = np.inf, np.zeros(len(parameters))

    def __call__(self, vector: Float[np.ndarray, "parameter"]) -> float:
        """Errors a signal and area bias, and the same penalty on large steps as the gradient has."""
        vector = self.parameters.project(vector)
        errors = added(hard_errors(self.detector, self.batches, self.parameters.frozen(vector)))
        loss = float(errors.loss(SCOPE)) + self.to_given * float(vector @ vector)
        self.n += 1
        if loss < self.best:
            self.best, self.vector = loss, vector
        return loss

    def result(self) -> dict:
        """Where it stands."""
        return {
            "vector": self.vector.tolist(),
            "loss": self.best,
            "evaluations": self.n,
            "cpu_s": time.process_time() - self.begin,
        }


def scan(loss: HardLoss, points: Sequence[float], *, passes: int, gain: float = 1e-3) -> Iterator[dict]:
    """One threshold after the other, each to its best point; a result after every pass."""
    best = loss(np.zeros(len(loss.parameters)))
    for _ in range(passes):
        before = best
        for i in range(len(loss.parameters)):
            start = loss.vector.copy()
            for point in points:
                trial = start.copy()
                trial[i] += point
                best = min(best, loss(trial))
        yield loss.result()
        if best > before * (1 - gain):
            return


def tpe(loss: HardLoss, *, trials: int, reach: float, seed: int) -> dict:
    """Optuna's tree-structured Parzen estimator."""
    import optuna  # noqa: PLC0415 - the extra `studies`

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    names = loss.parameters.names
    study.enqueue_trial(dict.fromkeys(names, 0.0))
    study.optimize(
        lambda trial: loss(np.array([trial.suggest_float(n, -reach, reach) for n in names])), n_trials=trials
    )
    return loss.result()


def cma_es(loss: HardLoss, *, evaluations: int, seed: int) -> dict:
    """CMA-ES in steps, with the usual population."""
    import cma  # noqa: PLC0415 - the extra `studies`

    loss(np.zeros(len(loss.parameters)))
    options = {"maxfevals": evaluations, "seed": seed, "verbose": -9}
    cma.fmin2(lambda u: loss(np.asarray(u)), np.zeros(len(loss.parameters)), 0.7, options)
    return loss.result()
