"""Many events: the band, and reconstruction against truth."""

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from dmsim.plot.style import BLUE, GREY, INK, note

Column = Float[np.ndarray, "event"]


def draw_population(ax: Axes, cs1_pe: Column, cs2_pe: Column, *, colour: str, label: str) -> None:
    """Events in the plane of log10(cS2 / cS1) against cS1; those without both are left out."""
    good = np.isfinite(cs1_pe) & np.isfinite(cs2_pe) & (cs1_pe > 0) & (cs2_pe > 0)
    ax.scatter(
        cs1_pe[good], np.log10(cs2_pe[good] / cs1_pe[good]), s=5, lw=0, alpha=0.45, color=colour, label=label
    )
    ax.set(xlabel="cS1 [PE]", ylabel="log$_{10}$(cS2 / cS1)")


def draw_band(
    ax: Axes, centre_pe: Column, quantiles: Float[np.ndarray, "3 bin"], *, colour: str, label: str,
    linestyle: str = "-",
) -> None:  # fmt: skip
    """Median and central 68 % of a band in bins of cS1."""
    low, median, high = quantiles
    ax.fill_between(centre_pe, low, high, color=colour, alpha=0.14, lw=0)
    ax.plot(centre_pe, median, color=colour, ls=linestyle, label=label, lw=1.6)


def draw_residuals(ax: Axes, samples: dict[str, tuple[Column, str]], *, label: str, unit: str) -> None:
    """Histograms of a residual, each with its median and the half width of its central 68 %.

    Args:
        ax: to draw on.
        samples: values and colour by name; the first sets the range.
        label: what the residual is.
        unit: of the values.
    """
    finite = {name: values[np.isfinite(values)] for name, (values, _) in samples.items()}
    spread = max((_half_width(values) for values in finite.values() if values.size), default=1.0)
    reach = 5 * max(spread, 1e-6)
    bins = np.linspace(-reach, reach, 51)
    lines = []
    for name, (_, colour) in samples.items():
        values = finite[name]
        inside = np.clip(values, -reach, reach)  # what lies outside is seen in the outermost bins
        ax.hist(inside, bins=bins.tolist(), histtype="step", color=colour, lw=1.3, label=name,
                weights=np.full(inside.size, 1 / max(inside.size, 1)))  # fmt: skip
        if values.size:
            text = f"{np.median(values):+.2f} ± {_half_width(values):.2f} {unit}"
            lines.append((text.replace("-", "−"), colour))
    ax.axvline(0, color=GREY, lw=0.8, ls=":")
    for row, (text, colour) in enumerate(lines):
        note(ax, text, y=0.97 - 0.09 * row, colour=colour)
    ax.set(xlabel=f"{label} [{unit}]", ylabel="events / all", xlim=(-reach, reach))
    ax.set_ylim(0, 1.25 * ax.get_ylim()[1])


def _half_width(values: Column) -> float:
    low, high = np.quantile(values, [0.16, 0.84])
    return float(high - low) / 2


def draw_trajectory(
    ax: Axes, ratios: Float[np.ndarray, "step parameter"], *, labels: list[str], colours: list[str],
    relative_error: Float[np.ndarray, "parameter"], newton_from: int,
) -> None:  # fmt: skip
    """Each parameter over its true value against the step, and its uncertainty at the end.

    Args:
        ax: to draw on.
        ratios: parameter over true value.
        labels: of the parameters.
        colours: of the parameters.
        relative_error: of the last step, over the true value.
        newton_from: step from which another method goes on; marked.
    """
    steps = np.arange(ratios.shape[0])
    ax.axvline(newton_from, color=GREY, lw=0.8, alpha=0.6)
    ax.axhline(1, color=INK, lw=0.8, ls=":")
    for i, (label, colour) in enumerate(zip(labels, colours, strict=True)):
        ax.plot(steps, ratios[:, i], color=colour, label=label)
        ax.errorbar(steps[-1] * (1.03 + 0.03 * i), ratios[-1, i], relative_error[i], color=colour, fmt="o",
                    ms=3.5, capsize=2, lw=1.2)  # fmt: skip
    low, high = ax.get_ylim()  # an uncertainty of several times the value would hide the way
    ax.set(xlabel="step", ylabel="parameter / true value", ylim=(max(low, 0.0), min(high, 2.0)))
    ax.legend(loc="lower right")


def draw_profile(
    ax: Axes, x: Column, data: Column, error: Column, models: dict[str, tuple[Column, str, str]], *,
    xlabel: str, ylabel: str,
) -> None:  # fmt: skip
    """Measured means with errors, and models through them, given as values, colour and line style."""
    for label, (values, colour, linestyle) in models.items():
        ax.plot(x, values, color=colour, ls=linestyle, label=label)
    ax.errorbar(x, data, error, fmt="o", ms=4, color=BLUE, lw=1.2, capsize=2, label="reconstructed", zorder=3)
    ax.set(xlabel=xlabel, ylabel=ylabel)
