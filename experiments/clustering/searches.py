"""What the gradient is compared with: scans, TPE and CMA-ES on the hard loss, from the given settings.

Each goes on until it stops gaining: a scan until a whole pass gains less than `LEAST_GAIN` of the loss, the
others until so many evaluations in a row do, or to a cap.
"""

import time
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from dmsim.detector import Detector
from inference.tuning.clustering_loss import SCOPE
from inference.tuning.clustering_parameters import Parameters
from inference.tuning.clustering_samples import Batch, added, hard_errors

LEAST_GAIN = 1e-3


class HardLoss:
    """The loss of the hard reading at a vector of steps; remembers the best, and when it was found."""

    def __init__(self, detector: Detector, parameters: Parameters, batches: Sequence[Batch], to_given: float):
        self.detector, self.parameters, self.batches = detector, parameters, batches
        self.to_given = to_given
        self.n, self.begin = 0, time.process_time()
        self.best, self.vector = np.inf, np.zeros(len(parameters))
        self.history: list[tuple[int, float, float]] = []  # evaluations, CPU-s, loss of the best so far
        self.at_gain, self.last = 0, np.inf  # where it last gained `LEAST_GAIN`

    def __call__(self, vector: Float[np.ndarray, "parameter"]) -> float:
        """Errors a signal and area bias, and the same penalty on large steps as the gradient has."""
        vector = self.parameters.project(vector)
        errors = added(hard_errors(self.detector, self.batches, self.parameters.frozen(vector)))
        loss = float(errors.loss(SCOPE)) + self.to_given * float(vector @ vector)
        self.n += 1
        if loss < self.best:
            self.best, self.vector = loss, vector
            self.history.append((self.n, time.process_time() - self.begin, loss))
        if self.best < self.last * (1 - LEAST_GAIN):
            self.at_gain, self.last = self.n, self.best
        return loss

    def stalled(self, patience: int) -> bool:
        """Whether so many evaluations in a row gained nothing."""
        return self.n - self.at_gain >= patience

    def result(self, **facts: object) -> dict:
        """Where it stands."""
        return {
            "vector": self.vector.tolist(),
            "loss": self.best,
            "evaluations": self.n,
            "cpu_s": time.process_time() - self.begin,
            "history": list(self.history),
            **facts,
        }


def scan(loss: HardLoss, points: Sequence[float], *, passes: int) -> list[dict]:
    """One threshold after the other, each to its best point; a result after every pass."""
    best, results = loss(np.zeros(len(loss.parameters))), []
    for number in range(1, passes + 1):
        before = best
        for i in range(len(loss.parameters)):
            start = loss.vector.copy()
            for point in points:
                trial = start.copy()
                trial[i] += point
                best = min(best, loss(trial))
        converged = best > before * (1 - LEAST_GAIN)
        results.append(loss.result(passes=number, converged=converged))
        if converged:
            break
    return results


def tpe(loss: HardLoss, *, most: int, patience: int, reach: float, seed: int) -> dict:
    """Optuna's tree-structured Parzen estimator."""
    import optuna  # noqa: PLC0415 - the extra `studies`

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    names = loss.parameters.names
    study.enqueue_trial(dict.fromkeys(names, 0.0))

    def stop(study, _trial):
        if loss.stalled(patience):
            study.stop()

    study.optimize(
        lambda trial: loss(np.array([trial.suggest_float(n, -reach, reach) for n in names])),
        n_trials=most,
        callbacks=[stop],
    )
    return loss.result(converged=loss.stalled(patience))


def cma_es(loss: HardLoss, *, most: int, patience: int, step: float, seed: int) -> dict:
    """CMA-ES in steps, with the usual population."""
    import cma  # noqa: PLC0415 - the extra `studies`

    zero = np.zeros(len(loss.parameters))
    loss(zero)
    search = cma.CMAEvolutionStrategy(zero, step, {"maxfevals": most, "seed": seed, "verbose": -9})
    while not search.stop() and not loss.stalled(patience):
        asked = search.ask()
        search.tell(asked, [loss(np.asarray(u)) for u in asked])
    return loss.result(converged=loss.stalled(patience) or loss.n < most)
