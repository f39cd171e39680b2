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
    ended: str  # why


class HardFigure:
    """The hard figure of thresholds, as fast as NumPy makes it.

    Margins are linear in thresholds and knots: what multiplies them is computed once.
    """

    def __init__(self, evaluator: Evaluator, vector: Vector, table: Table, *, penalised: bool = True):
        self.evaluator, self.vector, self.table, self.penalised = evaluator, vector, table, penalised
        self.bins = evaluator.objective.bin_of(table)
        margins = self._margins(np.zeros(len(vector)))
        self.base = [np.asarray(m, np.float32) for m in margins]
        self.slopes: list[np.ndarray] = []
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
            self.evaluator.hard_of(self.passed(values), self.table, self.bins, penalised=self.penalised).value
        )
        self.n += 1
        if found > self.best:
            self.best, self.best_values = found, np.array(values)
            self.history.append((self.n, time.process_time() - self.start, found))
        return found

    def result(self, ended: str) -> Search:
        """Of the search so far."""
        return Search(self.best_values, self.n, self.cpu_s, self.history, ended)

    @property
    def cpu_s(self) -> float:
        """Since it was made."""
        return time.process_time() - self.start


def ranges(vector: Vector, table: Table) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest threshold that a search tries: central 99.8 % of the signal, and 1 % more."""
    low, high = np.zeros(len(vector)), np.zeros(len(vector))
    sides = (cut for cut in vector.rebuild(vector.origin) for _ in cut.sides)
    for cut, (first, size) in zip(sides, vector.groups, strict=True):
        values = table.columns[cut.key][table.is_signal]
        ends = np.quantile(values[np.isfinite(values)], [0.001, 0.999])
        # where many events lie on the end itself a threshold on it would remove them all
        wider = 0.01 * np.ptp(ends) * np.array([-1, 1])
        low[first : first + size], high[first : first + size] = ends + wider
    return low, high


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
        if best < before * (1 + gain):
            yield figure.result("converged")
            return
        yield figure.result("passes")


def tpe(
    figure: HardFigure,
    first: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    *,
    patience: int,
    most_cpu_s: float,
    seed: int,
) -> Search:
    """Optuna's tree-structured Parzen estimator, until nothing is gained any more.

    Args:
        figure: to maximise.
        first: thresholds of its first trial.
        low: least thresholds.
        high: greatest thresholds.
        patience: trials in which the best figure has to rise by 0.1 %, or it ends.
        most_cpu_s: when it ends in any case [s].
        seed: of its sampler.
    """
    import optuna  # noqa: PLC0415 - the extra `studies`

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    names = figure.vector.names
    study.enqueue_trial(dict(zip(names, np.clip(first, low, high).tolist(), strict=True)))
    since, goal, ended = 0, -np.inf, "patience"

    def objective(trial):
        values = [trial.suggest_float(n, a, b) for n, a, b in zip(names, low, high, strict=True)]
        return figure(np.asarray(values))

    def stop(study, trial):
        nonlocal since, goal, ended
        if figure.best > goal * 1.001 or trial.number == 0:
            since, goal = trial.number, figure.best
        if figure.cpu_s > most_cpu_s:
            ended = "time"
        if ended == "time" or trial.number - since >= patience:
            study.stop()

    study.optimize(objective, callbacks=[stop])
    return figure.result(ended)


def cma_es(
    figure: HardFigure,
    first: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    *,
    tolerance: float,
    most_cpu_s: float,
    seed: int,
) -> Search:
    """CMA-ES in spreads of the signal, with the usual population, until it ends itself.

    Args:
        figure: to maximise.
        first: thresholds to start from.
        low: least thresholds.
        high: greatest thresholds.
        tolerance: its `tolfun`, on the figure.
        most_cpu_s: when it ends in any case [s].
        seed: of its draws.
    """
    import cma  # noqa: PLC0415 - the extra `studies`

    vector = figure.vector
    bounds = [((end - vector.origin) / vector.scale).tolist() for end in (low, high)]
    options = {"bounds": bounds, "seed": seed, "verbose": -9, "tolfun": tolerance}
    start = (first - vector.origin) / vector.scale
    # no start on the border, where its transformation has no slope
    start = np.clip(start, np.array(bounds[0]) + 1e-3, np.array(bounds[1]) - 1e-3)
    search = cma.CMAEvolutionStrategy(start, 0.5, options)
    while figure.n == 0 or (not search.stop() and figure.cpu_s < most_cpu_s):
        asked = search.ask()
        search.tell(asked, [-figure(vector.origin + vector.scale * np.asarray(u)) for u in asked])
    return figure.result(", ".join(search.stop() or {}) or "time")


def trees(
    tuning: Table, validation: Table, both: Table, evaluator: Evaluator
) -> tuple[Callable[[Table], np.ndarray], float]:
    """Boosted trees on the cuts' own variables; the threshold on their score is chosen by the same figure.

    Trees of the first part and figures on the second give the threshold; the trees are then grown on all.

    Returns:
        Which events pass, and the CPU-seconds that it took.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier  # noqa: PLC0415 - the extra `studies`

    begin = time.process_time()
    names = sorted(both.columns)

    def features(table):
        return np.stack([np.nan_to_num(table.columns[c], nan=-999.0, neginf=-99.0) for c in names], axis=1)

    def fitted(table):
        signal, weight = table.is_signal, table.weight.astype(float)
        weight = np.where(signal, weight / weight[signal].sum(), weight / weight[~signal].sum())
        model = HistGradientBoostingClassifier(
            max_iter=200, learning_rate=0.08, max_leaf_nodes=15, l2_regularization=1.0, random_state=0
        )
        model.fit(features(table), signal, sample_weight=weight / weight.mean())
        return lambda events: np.asarray(model.decision_function(features(events)))

    seen = fitted(tuning)(validation)
    bins = evaluator.objective.bin_of(validation)
    levels = np.quantile(seen[validation.is_signal], np.linspace(0.02, 0.9, 89))
    figures = [
        float(evaluator.hard_of(seen > level, validation, bins, penalised=True).value) for level in levels
    ]
    level, score = levels[int(np.argmax(figures))], fitted(both)
    return lambda table: score(table) > level, time.process_time() - begin
