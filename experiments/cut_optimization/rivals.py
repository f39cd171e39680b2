"""What the gradient is compared with: scans, TPE, CMA-ES on the same hard figure, and boosted trees."""

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jaxtyping import Float

from inference.tuning.figures import Evaluator
from inference.tuning.samples import Table
from inference.tuning.vector import Vector, side_margins


@dataclasses.dataclass
class Search:
    """Where a search ended, and how it got there."""

    values: Float[np.ndarray, "parameter"]
    n_evaluations: int
    cpu_s: float
    history: list[tuple[int, float, float]]  # evaluations, CPU-seconds, best figure so far


class HardFigure:
    """The penalised hard figure of thresholds, as fast as NumPy makes it.

    Margins are linear in thresholds and knots: what multiplies them is computed once.
    """

    def __init__(self, evaluator: Evaluator, vector: Vector, table: Table):
        self.evaluator, self.vector, self.table = evaluator, vector, table
        self.bins = evaluator.objective.bin_of(table)
        margins = self._margins(np.zeros(len(vector)))
        self.base = [np.asarray(m, np.float32) for m in margins]
        self.slopes: list[np.ndarray | float] = []
        for side, (first, size) in enumerate(vector.groups):
            unit = np.eye(len(vector))[first : first + size]
            moved = [np.asarray(self._margins(u)[side], np.float32) - self.base[side] for u in unit]
            # NaN where the variable is not defined: the event fails whatever the threshold
            self.slopes.append(np.nan_to_num(np.stack(moved, axis=1)))
        self.n = 0
        self.start = time.process_time()
        self.best, self.best_values = -np.inf, vector.origin.copy()
        self.history: list[tuple[int, float, float]] = []

    def _margins(self, values: np.ndarray) -> list[np.ndarray]:
        return side_margins(self.vector.rebuild(values), self.table.columns)

    def passed(self, values: np.ndarray) -> np.ndarray:
        """Whether each event passes."""
        good = np.ones(len(self.table), bool)
        for base, slope, (first, size) in zip(self.base, self.slopes, self.vector.groups, strict=True):
            here = values[first : first + size].astype(np.float32)
            shift = slope[:, 0] * here[0] if size == 1 else slope @ here
            good &= base + shift > 0
        return good

    def __call__(self, values: np.ndarray) -> float:
        """The figure; remembers the best."""
        found = float(
            self.evaluator.hard_of(self.passed(values), self.table, self.bins, penalised=True).value
        )
        self.n += 1
        if found > self.best:
            self.best, self.best_values = found, np.array(values)
            self.history.append((self.n, time.process_time() - self.start, found))
        return found

    def result(self) -> Search:
        """Of the search so far."""
        return Search(self.best_values, self.n, time.process_time() - self.start, self.history)


def ranges(vector: Vector, table: Table) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest threshold that a search tries: central 99.8 % of each variable, all classes."""
    low, high = np.zeros(len(vector)), np.zeros(len(vector))
    cuts = vector.rebuild(vector.origin)
    number = 0
    for cut in cuts:
        values = table.columns[cut.key]
        values = values[np.isfinite(values)]
        ends = np.quantile(values, [0.001, 0.999])
        for _ in cut.sides:
            first, size = vector.groups[number]
            low[first : first + size], high[first : first + size] = ends
            number += 1
    origin = vector.origin
    return np.minimum(low, origin), np.maximum(high, origin)


def scan(
    figure: HardFigure, grid: Sequence[np.ndarray], *, passes: int, gain: float = 1e-3
) -> Iterator[Search]:
    """One threshold after the other, each to its best point; a result after every pass."""
    values = figure.vector.origin.copy()
    best = figure(values)
    for _ in range(passes):
        before = best
        for i, points in enumerate(grid):
            for point in points:
                trial = values.copy()
                trial[i] = point
                found = figure(trial)
                if found > best:
                    best, values = found, trial
        yield figure.result()
        if best < before * (1 + gain):
            return


def tpe(figure: HardFigure, low: np.ndarray, high: np.ndarray, *, trials: int, seed: int) -> Search:
    """Optuna's tree-structured Parzen estimator, from the given cuts."""
    import optuna  # noqa: PLC0415 - the extra `studies`

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    names = figure.vector.names
    study.enqueue_trial(dict(zip(names, figure.vector.origin.tolist(), strict=True)))

    def objective(trial):
        values = [trial.suggest_float(n, a, b) for n, a, b in zip(names, low, high, strict=True)]
        return figure(np.asarray(values))

    study.optimize(objective, n_trials=trials)
    return figure.result()


def cma_es(figure: HardFigure, low: np.ndarray, high: np.ndarray, *, evaluations: int, seed: int) -> Search:
    """CMA-ES in spreads of the signal, from the given cuts, with the usual population."""
    import cma  # noqa: PLC0415 - the extra `studies`

    vector = figure.vector
    bounds = [((end - vector.origin) / vector.scale).tolist() for end in (low, high)]
    options = {"bounds": bounds, "maxfevals": evaluations, "seed": seed, "verbose": -9, "tolfun": 1e-5}
    start = np.zeros(len(vector))
    # no start on the border, where its transformation has no slope
    start = np.clip(start, np.array(bounds[0]) + 1e-3, np.array(bounds[1]) - 1e-3)
    cma.fmin2(lambda u: -figure(vector.origin + vector.scale * np.asarray(u)), start, 0.5, options)
    return figure.result()


def trees(
    tuning: Table, validation: Table, evaluator: Evaluator
) -> tuple[Callable[[Table], np.ndarray], float]:
    """Boosted trees on the cuts' own variables; the threshold on their score is chosen by the same figure.

    Returns:
        Which events pass, and the CPU-seconds that it took.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier  # noqa: PLC0415 - the extra `studies`

    begin = time.process_time()
    names = sorted(tuning.columns)

    def features(table):
        return np.stack([np.nan_to_num(table.columns[c], nan=-999.0, neginf=-99.0) for c in names], axis=1)

    signal = tuning.is_signal
    weight = tuning.weight.astype(float)
    weight = np.where(signal, weight / weight[signal].sum(), weight / weight[~signal].sum())
    model = HistGradientBoostingClassifier(
        max_iter=200, learning_rate=0.08, max_leaf_nodes=15, l2_regularization=1.0, random_state=0
    )
    model.fit(features(tuning), signal, sample_weight=weight / weight.mean())

    def score(table):
        return np.asarray(model.decision_function(features(table)))

    seen = score(validation)
    bins = evaluator.objective.bin_of(validation)
    levels = np.quantile(seen[validation.is_signal], np.linspace(0.02, 0.9, 89))
    figures = [
        float(evaluator.hard_of(seen > level, validation, bins, penalised=True).value) for level in levels
    ]
    level = levels[int(np.argmax(figures))]
    return lambda table: score(table) > level, time.process_time() - begin
