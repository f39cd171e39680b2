"""Write docs/reference/gradients.md from the checks.

    python tests/gradients/make_table.py
    python tests/gradients/make_table.py --cost

With --cost only the section on what a gradient costs is measured, and the rest of the page is kept.
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Iterable
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
of squared samples of lone pulses, as the last table shows. The reconstruction's gradients are those of its
soft reading: [](../physics/soft-reconstruction.md).

Leaves that do not enter a level are listed below its table.
"""
ROW = "| `{leaf}` | {functional} | {rule} | {gradient:+.4g} | {bias:+.2f} ± {error:.2f} | {spread:.2g} |"
COLUMNS = "| leaf | functional | rule | gradient | bias [%] | spread |\n|---|---|---|---|---|---|"
COUNTS = (
    "quanta",
    "areas",
    "areas, emission model",
    "few quanta",
    "field and gap",
)  # levels whose counts are numbers, not list lengths
RULES = (  # of what a leaf acts on first: pattern of the leaf, at counts, at hits and records
    (r"drift_field|gas_gap|noise\.", "pathwise, matched-normal", "pathwise, weight"),
    (r"scintillation.*(lifetime|singlet)|electroluminescence.*(triplet|singlet)", "-", "implicit"),
    (r"scintillation|gap_transit|time_ns", "pathwise", "pathwise"),
    (r"diffusion|drift_speed|surface_delay|resolution|spread_mm", "pathwise", "pathwise"),
    (
        r"spe_width|linear_noise|pulse_|gain$|amplification|noise_adc|impedance|voltage",
        "pathwise",
        "pathwise",
    ),
    (r"double_pe|se_gain|se_fano", "matched-normal", "matched-normal"),
    (r"light\.s[12]_(top|diffuse)|height|depth|sensors", "-", "weight"),
    (r"g1_|lifetime_us|extraction|slope|curve|reference_r2|[xyz]_mm", "matched-normal", "weight"),
    (r"quanta|xenon|energy", "matched-normal, pathwise", "matched-normal, weight"),
)


def rule(level: str, leaf: str) -> str:
    """The rule by which the leaf's gradient begins; what follows it downstream has rules of its own."""
    for pattern, counts, lists in RULES:
        if re.search(pattern, leaf):
            return counts if level in COUNTS else lists
    return "pathwise"


def _short(leaf: str) -> str:
    """The name within the detector or the deposits."""
    return leaf.removeprefix("detector.").removeprefix("deposits.")


def _row(level: str, c) -> str:
    scale = 100 / abs(c.reference)
    return ROW.format(
        leaf=_short(c.leaf),
        functional=c.functional,
        rule=rule(level, c.leaf),
        gradient=c.gradient,
        bias=c.bias * scale,
        error=c.bias_error * scale,
        spread=c.gradient_spread / max(abs(c.gradient), 1e-30),
    )


def section(level: str, plan: levels.Plan) -> str:
    """One level's tables, in the detector's leaves and the deposits'."""
    evaluate, inputs = levels.scene(plan)
    steps = {"step": plan.step, "largest_shift": plan.largest_shift, "along": levels.EVENT_LEAVES}

    def compare(names):
        return table(
            level, plan, ((name, harness.compare(evaluate, inputs, name, **steps)) for name in names)
        )

    title = f"\n## {level.capitalize()}: {plan.n_events:,} events in {inputs.detector.name}\n\n"
    text = title + compare([f"detector.{leaf}" for leaf in levels.leaves(plan)])
    if level not in ("quanta", "areas", "hits", "records"):
        return text
    return text + "\nIn the deposits:\n\n" + compare(levels.EVENT_LEAVES)


def table(level: str, plan: levels.Plan, found: Iterable[tuple[str, list[harness.Comparison]]]) -> str:
    """The functional that feels each leaf most clearly, and what is not in the table."""
    rows, absent, faint, squares = [], [], [], []
    for leaf, comparisons in found:
        squares += [c for c in comparisons if c.resolved and not plan.asserted(c)]
        asserted = [c for c in comparisons if plan.asserted(c)]
        for c in asserted:
            if not c.within(plan.budget):
                print(f"{level}: beyond what the tests allow: {c}", file=sys.stderr, flush=True)
        if all(c.absent for c in asserted):
            absent.append(_short(leaf))
            continue
        clear = max(asserted, key=lambda c: abs(c.reference) / max(c.bias_error, c.reference_error, 1e-30))
        if clear.resolved:
            rows.append(_row(level, clear))
        else:
            faint.append(_short(leaf))
    text = COLUMNS + "\n" + "\n".join(rows) + "\n"
    if faint:
        text += "\nNot seen above the noise of the reference: " + ", ".join(f"`{x}`" for x in faint) + ".\n"
    if absent:
        text += "\nDo not enter: " + ", ".join(f"`{x}`" for x in absent) + ".\n"
    if squares:
        text += "\nSums of squared samples, where a weight is not exact:\n\n" + COLUMNS + "\n"
        text += "\n".join(_row(level, c) for c in squares) + "\n"
    return text


COST = """
## Cost

`python benchmarks/gradients.py`: the value and gradient in all float leaves of the detector (reverse mode)
over the forward run, xenonnt with everything that the preset has, 10 keV electron recoils, on one pinned
core. Times are medians of pairs of a forward run and a gradient, one after the other; the ratio is that of
the pairs, with their range. Memory is the peak of a process of its own beyond what it has with the detector
loaded, its programs compiled before.

{table}
"""


def cost() -> str:
    """What a gradient costs, by the benchmark; its own process, so that memory is measured from nothing.

    Raises:
        RuntimeError: with what the benchmark said, if it fails.
    """
    benchmark = Path(__file__).parents[2] / "benchmarks" / "gradients.py"
    done = subprocess.run([sys.executable, str(benchmark)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{benchmark.name}: {done.stderr.strip()[-2000:]}")
    return COST.format(table=done.stdout.strip())


def main() -> None:
    """Run all plans and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cost", action="store_true", help="measure the cost only, and keep the rest")
    args = parser.parse_args()
    path = Path(__file__).parents[2] / "docs" / "reference" / "gradients.md"
    if args.cost:
        page, title, _ = path.read_text().partition(COST.lstrip().partition("\n")[0])
        if not title:
            parser.error(f"{path} has no section on costs: write the whole page")
        path.write_text(page + cost().lstrip())
        return
    page = HEAD.format(version=jax.__version__)
    for level, plan in levels.PLANS.items():
        print(f"{level}: {plan.n_events:,} events", file=sys.stderr, flush=True)
        page += section(level, plan)
    path.write_text(page + cost())


if __name__ == "__main__":
    main()
