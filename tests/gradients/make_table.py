"""Write docs/reference/gradients.md from the checks: `python tests/gradients/make_table.py`."""

from pathlib import Path

import harness
import jax
import levels

HEAD = """# Gradients, measured

Written by `python tests/gradients/make_table.py` from the checks that run in the tests (jax {version},
float32). For each level and leaf: the functional that feels the leaf most clearly, the derivative of its mean
with respect to the logarithm of the leaf (for array leaves along a fixed random direction), the bias of the
gradient against finite differences with common random numbers, paired event by event, and the spread of one
event's gradient over its mean. A bias within its error is noise; the tests refuse more than 1 % beyond 4.9
errors. Some leaves are set to values at which they are felt (`tests/gradients/levels.py`).

The rules are those of `dmsim.relax`: *matched-normal* for counts, *pathwise* for continuous draws, *implicit*
for the light's decay, *weight* for the number of hits and the choice of a sensor, *conditional* for zero
suppression. A weight is exact for every sum over hits and whatever is linear in the samples. Where fewer than
12 hits are expected it overstates the gradient of a sum's spread, by up to a factor 2; and it overstates sums
of squared samples of lone pulses, as the last table shows. Hard decisions of the reconstruction have no
gradient in this version.

Leaves that do not enter a level are listed below its table.
"""
ROW = "| `{leaf}` | {functional} | {gradient:+.4g} | {bias:+.2f} ± {error:.2f} | {spread:.2g} |"
COLUMNS = "| leaf | functional | gradient | bias [%] | spread |\n|---|---|---|---|---|"


def _row(c) -> str:
    scale = 100 / abs(c.reference)
    return ROW.format(
        leaf=c.leaf,
        functional=c.functional,
        gradient=c.gradient,
        bias=c.bias * scale,
        error=c.bias_error * scale,
        spread=c.gradient_spread / max(abs(c.gradient), 1e-30),
    )


def section(level: str, plan: levels.Plan) -> str:
    """One level's table, and what is not in it."""
    detector = plan.detector()
    per_event = plan.functionals(detector, plan.n_events)
    rows, absent, faint, squares = [], [], [], []
    for leaf in plan.leaves or harness.leaf_paths(detector):
        found = harness.compare(per_event, detector, leaf, step=plan.step, largest_shift=plan.largest_shift)
        squares += [c for c in found if c.resolved and not plan.asserted(c)]
        found = [c for c in found if plan.asserted(c)]
        if all(c.absent for c in found):
            absent.append(leaf)
            continue
        clear = max(found, key=lambda c: abs(c.reference) / max(c.bias_error, c.reference_error, 1e-30))
        if clear.resolved:
            rows.append(_row(clear))
        else:
            faint.append(leaf)
    text = (
        f"\n## {level.capitalize()}: {plan.n_events:,} events in {detector.name}\n\n{COLUMNS}\n"
        + "\n".join(rows)
        + "\n"
    )
    if faint:
        text += "\nNot seen above the noise of the reference: " + ", ".join(f"`{x}`" for x in faint) + ".\n"
    if absent:
        text += "\nDo not enter: " + ", ".join(f"`{x}`" for x in absent) + ".\n"
    if squares:
        text += "\nSums of squared samples, where a weight is not exact:\n\n" + COLUMNS + "\n"
        text += "\n".join(map(_row, squares)) + "\n"
    return text


def main() -> None:
    """Run all plans and write the page."""
    page = HEAD.format(version=jax.__version__)
    for level, plan in levels.PLANS.items():
        page += section(level, plan)
    Path(__file__).parents[2].joinpath("docs", "reference", "gradients.md").write_text(page)


if __name__ == "__main__":
    main()
