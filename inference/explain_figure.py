"""Figure of attributions: shares on the sensors and along the waveform, and the deletion test."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from inference.explain import Deletion


def figure(
    path: Path | str,
    *,
    patterns: dict[str, tuple[Float[Any, "sensor"], Float[Any, "sensor"], Float[Any, "sensor"]]],
    waveforms: dict[str, tuple[Float[Any, "sample"], Float[Any, "sample"]]],
    sample_ns: float = 10.0,
    title: str = "",
    test: Deletion | None = None,
    tested: str = "",
    panels: Sequence[Callable[[Any], None]] = (),
) -> None:
    """Shares on the sensors' array and along the waveform, in one file.

    Args:
        path: with an ending that matplotlib knows.
        patterns: title to (x in mm, y in mm, shares) of the sensors.
        waveforms: title to (PE a sample, shares).
        sample_ns: of the waveforms.
        title: what is shared out, with its unit; not needed where the names say it.
        test: the deletion test, drawn if given.
        tested: of which parameter it is.
        panels: further ones, each draws into axes.
    """
    from inference.diagnostics.figures import page  # noqa: PLC0415  matplotlib is slow to load

    page(
        path,
        [
            *(
                lambda axes, name=name, of=of: _sensors(axes, *of, f"{name}: {title}" if title else name)
                for name, of in patterns.items()
            ),
            *(
                lambda axes, name=name, of=of: _samples(
                    axes, *of, sample_ns, f"{name}: {title}" if title else name
                )
                for name, of in waveforms.items()
            ),
            *panels,
            *([lambda axes: _deletion(axes, test, tested)] if test is not None else []),
        ],
    )


def _sensors(axes, x_mm, y_mm, shares, title):
    shares = np.asarray(shares)
    largest = float(np.abs(shares).max()) or 1.0
    order = np.argsort(np.abs(shares))  # those that count on top
    dots = axes.scatter(
        np.asarray(x_mm)[order], np.asarray(y_mm)[order], c=shares[order], s=26, cmap="RdBu_r", vmin=-largest,
        vmax=largest, edgecolors="#cfcfcf", linewidths=0.3,
    )  # fmt: skip
    axes.figure.colorbar(dots, ax=axes, shrink=0.8)
    axes.set(aspect="equal", xlabel="x / mm", ylabel="y / mm", title=title)


def _samples(axes, pe, shares, sample_ns, title):
    at = np.arange(len(pe)) * sample_ns / 1e3
    axes.plot(at, np.asarray(pe), color="#222222", lw=0.8)
    axes.set(xlabel="time / \N{MICRO SIGN}s", ylabel="PE / sample", title=title)
    right = axes.twinx()
    right.fill_between(at, np.asarray(shares), step="mid", color="#D55E00", alpha=0.5, lw=0)
    limit = float(np.abs(np.asarray(shares)).max()) or 1.0
    right.set(ylim=(-1.1 * limit, 1.1 * limit))
    right.tick_params(labelsize=7, colors="#D55E00")


def _deletion(axes, test: Deletion, tested: str):
    share, random = np.concatenate([[0], test.share]), np.pad(test.random, ((0, 0), (1, 0)))
    axes.plot(share, random.T, color="#8a8a8a", lw=0.4, alpha=0.6)
    axes.plot(share, np.concatenate([[0], test.ordered]), color="#0072B2", label="most important first")
    axes.set(xlabel="inputs taken out", ylabel="way to the baseline")
    axes.set_title(f"Deletion, {tested + ': ' if tested else ''}p {test.p_value:.3g}")
    axes.legend(frameon=False, fontsize=7)
