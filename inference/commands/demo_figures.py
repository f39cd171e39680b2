"""The demonstration's figures, each a PNG file."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.ticker import LogLocator
from PIL import Image

from dmsim.plot.hit_patterns import draw_hit_pattern
from dmsim.plot.populations import (
    draw_band,
    draw_population,
    draw_profile,
    draw_residuals,
    draw_trajectory,
)
from dmsim.plot.style import BLUE, BROWN, GREEN, GREY, ORANGE, SKY, VERMILION, note, style
from dmsim.plot.waveforms import WaveForm, draw_event, draw_zoom, summed_waveform
from inference.demo.calibration import Comparison, Sample
from inference.demo.closure import LABELS, PARAMETERS, Closure
from inference.demo.study import Study

NAMES = ("overview", "waveform", "hit_pattern", "band", "resolution", "fit")
_FIT_COLOURS = [BLUE, VERMILION, GREEN]


def draw_figures(study: Study, folder: Path) -> dict[str, Path]:
    """Draw all figures into a folder.

    Returns:
        The PNG files by name.
    """
    mpl.use("Agg")  # files only: no window, no display needed
    drawn = (_overview, _waveform, _hit_pattern, _band, _resolution, _fit)
    paths = {}
    with style():
        for name, draw in zip(NAMES, drawn, strict=True):
            paths[name] = folder / f"{name}.png"
            draw(study).savefig(paths[name])
            _shrink(paths[name])
    return paths


def _shrink(path: Path) -> None:
    """256 colours are enough for a figure, and a third of the bytes."""
    with Image.open(path) as image:
        # maximum coverage keeps colours that few pixels have: markers and thin lines
        colours = image.convert("RGB").quantize(
            256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
        )
    colours.save(path, optimize=True)


def _figure(width: float, height: float) -> Figure:
    import matplotlib.pyplot as plt  # after the backend is chosen

    return plt.figure(figsize=(width, height))


class _Shown:
    """The displayed event: waveform, and where its peaks are."""

    def __init__(self, study: Study):
        sample = study.kr83m
        self.sample, self.row = sample, sample.display.row
        self.sample_ns = study.detector.electronics.sample_ns
        self.waveform: WaveForm = summed_waveform(
            study.detector, sample.display.records, sample.display.batch_event
        )
        events, peaks, start = sample.events, sample.peaks, sample.display.start_ns
        self.s1, self.s2 = int(events.s1_peak[self.row]), int(events.s2_peak[self.row])
        self.s1_ns, self.s2_ns = (float(peaks.time_ns[p] - start) for p in (self.s1, self.s2))
        self.s1_length_ns, self.s2_length_ns = (float(peaks.length_ns[p]) for p in (self.s1, self.s2))

    def zoom_s1(self, ax: Axes) -> None:
        draw_zoom(
            ax,
            self.waveform,
            from_ns=self.s1_ns - 60,
            to_ns=self.s1_ns + min(self.s1_length_ns, 600),
            colour=BLUE,
            unit_ns=1,
            sample_ns=self.sample_ns,
        )
        events, truth = self.sample.events, self.sample.truth
        note(ax, f"S1\n{events.s1_pe[self.row]:,.0f} PE found\n{truth.s1_pe[self.row]:,.0f} PE true",
             colour=BLUE)  # fmt: skip

    def zoom_s2(self, ax: Axes) -> None:
        margin = 0.05 * self.s2_length_ns
        draw_zoom(
            ax,
            self.waveform,
            from_ns=self.s2_ns - margin,
            to_ns=self.s2_ns + self.s2_length_ns + margin,
            colour=VERMILION,
            unit_ns=1e3,
            sample_ns=self.sample_ns,
        )
        ax.set_ylim(top=1.3 * ax.get_ylim()[1])  # room for the note
        events, truth = self.sample.events, self.sample.truth
        note(ax, f"S2\n{events.s2_pe[self.row]:,.0f} PE found\n{truth.s2_pe[self.row]:,.0f} PE true",
             colour=VERMILION)  # fmt: skip

    def whole(self, ax: Axes) -> None:
        spans = {
            "S1": (self.s1_ns, self.s1_ns + self.s1_length_ns, BLUE),
            "S2": (self.s2_ns, self.s2_ns + self.s2_length_ns, VERMILION),
        }
        draw_event(ax, self.waveform, spans, sample_ns=self.sample_ns)

    def positions(self) -> dict[str, tuple[float, float]]:
        events, truth = self.sample.events, self.sample.truth
        return {
            "true_mm": (truth.x_mm[self.row], truth.y_mm[self.row]),
            "found_mm": (events.x_mm[self.row], events.y_mm[self.row]),
        }


def _waveform(study: Study) -> Figure:
    shown = _Shown(study)
    figure = _figure(10, 5.6)
    axes = figure.subplot_mosaic([["all", "all"], ["s1", "s2"]], height_ratios=(1, 1.15))
    shown.whole(axes["all"])
    axes["all"].set_title(f"Kr-83m event {shown.sample.events.event[shown.row]}, sum of all sensors")
    shown.zoom_s1(axes["s1"])
    shown.zoom_s2(axes["s2"])
    return figure


def _hit_pattern(study: Study) -> Figure:
    shown = _Shown(study)
    figure = _figure(10, 9.2)
    axes = figure.subplots(2, 2, sharex=True, sharey=True)
    for row, (name, peak) in enumerate((("S2", shown.s2), ("S1", shown.s1))):
        area = shown.sample.peaks.area_per_channel_pe[peak]
        for ax, side in zip(axes[row], ("top", "bottom"), strict=True):
            marks = shown.positions() if name == "S2" and side == "top" else {}
            lit = draw_hit_pattern(ax, study.detector, area, side=side, **marks)
            share = _side_share(study, area, side)
            ax.set_title(f"{name}, {side} array: {share:.0%} of {area.sum():,.0f} PE")
            ax.label_outer()
        bar = figure.colorbar(lit, ax=axes[row], label=f"{name} area [PE / sensor]", shrink=0.8, aspect=30)
        _plain_ticks(bar)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    return figure


def _plain_ticks(bar: Colorbar) -> None:
    """1, 2, 5, 10, ... in place of powers of ten."""
    bar.ax.minorticks_off()
    along_x = bar.orientation == "horizontal"
    axis = bar.ax.xaxis if along_x else bar.ax.yaxis
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter("{x:g}")


def _side_share(study: Study, area, side: str) -> float:
    top = float(area[: study.detector.light.sensors.n_top].sum() / area.sum())
    return top if side == "top" else 1 - top


def _populations(ax: Axes, samples: tuple[tuple[Sample, str], ...]) -> None:
    for sample, colour in samples:
        draw_population(ax, sample.events.cs1_pe, sample.events.cs2_pe, colour=colour, label=sample.name)


def _band_models(ax: Axes, study: Study) -> None:
    draw_band(
        ax, study.band.centre_pe, study.band_fitted.quantiles, colour="black", label="flat ER, fitted model"
    )
    ax.plot(study.band.centre_pe, study.band_start.quantiles[1], color=GREY, ls="--",
            label="flat ER, before the fit")  # fmt: skip
    ax.errorbar(study.band.centre_pe, study.band.quantiles[1], study.band.median_error, fmt="o", ms=4,
                color=BLUE, mec="white", mew=0.6, lw=1.2, label="flat ER, reconstructed median")  # fmt: skip


def _band_limits(study: Study) -> dict:
    cs1 = np.concatenate([study.kr83m.events.cs1_pe, study.er_flat.events.cs1_pe])
    height = np.log10(np.concatenate([study.kr83m.events.cs2_pe, study.er_flat.events.cs2_pe]) / cs1)
    low, high = np.nanquantile(height, [0.001, 0.999])
    pad = 0.06 * (high - low)
    return {"xlim": (0, 1.08 * np.nanquantile(cs1, 0.995)), "ylim": (low - pad, high + pad)}


def _band(study: Study) -> Figure:
    figure = _figure(10, 4.6)
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    fitted = study.closure.detector
    for sample, colour in ((study.er_flat, SKY), (study.kr83m, ORANGE)):
        cs1, cs2 = _corrected_truth(study, sample, fitted)
        draw_population(left, cs1, cs2, colour=colour, label=sample.name)
    _populations(right, ((study.er_flat, SKY), (study.kr83m, ORANGE)))
    _band_models(right, study)
    left.set_title("true photoelectrons, corrected at the true place")
    right.set_title("reconstructed from waveforms")
    right.set(ylabel="", **_band_limits(study))
    for ax in (left, right):
        _opaque(ax.legend(loc="upper right"))
    return figure


def _corrected_truth(study: Study, sample: Sample, fitted):
    """Areas of the true charge, corrected with the fitted detector at the true place."""
    truth = sample.truth
    light, geometry = fitted.light, fitted.geometry
    s1_yield = np.asarray(light.s1_relative_yield(geometry, truth.x_mm, truth.y_mm, truth.z_mm))
    drift_ns = fitted.electrons.drift_time_ns(truth.z_mm)
    s2_yield = np.asarray(light.s2_relative_yield(geometry, truth.x_mm, truth.y_mm))
    return truth.s1_pe / s1_yield, truth.s2_pe / (s2_yield * np.asarray(fitted.electrons.survival(drift_ns)))


_RESIDUALS = (
    ("s1_percent", "S1 area, found / true − 1", "%"),
    ("s2_percent", "S2 area, found / true − 1", "%"),
    ("x_mm", "x, found − true", "mm"),
    ("y_mm", "y, found − true", "mm"),
    ("z_mm", "z, found − true", "mm"),
)


def _resolution(study: Study) -> Figure:
    figure = _figure(10, 5.8)
    axes = figure.subplots(2, 3).ravel()
    samples: tuple[tuple[str, Comparison, str], ...] = (
        ("Kr-83m", study.kr83m_comparison, BROWN),
        ("flat ER", study.er_flat_comparison, BLUE),
    )
    for ax, (field, label, unit) in zip(axes, _RESIDUALS, strict=False):
        columns = {name: (getattr(c, field), colour) for name, c, colour in samples}
        draw_residuals(ax, columns, label=label, unit=unit)
    axes[0].legend(loc="upper left", fontsize=7.5)
    last = axes[-1]
    truth, comparison = study.er_flat.truth, study.er_flat_comparison
    last.scatter(truth.s1_pe, comparison.s1_percent, s=4, lw=0, alpha=0.4, color=BLUE)
    last.axhline(0, color=GREY, lw=0.8, ls=":")
    last.set(
        xscale="log",
        ylim=(-40, 40),
        xlabel="true S1 of flat ER [PE]",
        ylabel="S1 area, found / true − 1 [%]",
    )
    return figure


def _draw_fit_trajectory(ax: Axes, closure: Closure) -> None:
    draw_trajectory(
        ax,
        closure.trajectory / closure.true,
        labels=[LABELS[name] for name in PARAMETERS],
        colours=_FIT_COLOURS,
        relative_error=closure.statistical / closure.true,
        newton_from=closure.n_adam_steps,
    )


def _fit(study: Study) -> Figure:
    closure = study.closure
    figure = _figure(11, 3.9)
    trajectory, s1, s2 = figure.subplots(1, 3)
    _draw_fit_trajectory(trajectory, closure)
    trajectory.set_title("from a wrong detector back to the true one")
    n = len(closure.data.centre_us)
    error = np.sqrt(np.diag(closure.data.covariance))
    for ax, rows, name in ((s1, slice(0, n), "S1"), (s2, slice(n, 2 * n), "S2")):
        scale = 1.0 if name == "S1" else 1e-3
        mean = scale * np.exp(closure.data.mean[rows])
        draw_profile(
            ax,
            closure.data.centre_us,
            mean,
            mean * error[rows],
            {
                "start": (scale * np.exp(closure.model_start[rows]), GREY, "--"),
                "fitted": (scale * np.exp(closure.model_fitted[rows]), "black", "-"),
            },
            xlabel="drift time [µs]",
            ylabel=f"Kr-83m {name}, geometric mean [{'PE' if name == 'S1' else '10³ PE'}]",
        )
    s1.set_title("data of the fit: uncorrected S1 ...")
    s2.set_title("... and uncorrected S2")
    s1.legend()
    return figure


def _overview(study: Study) -> Figure:
    shown = _Shown(study)
    figure = _figure(14, 5.9)
    grid = figure.add_gridspec(1, 3, width_ratios=(5, 4.7, 4.4))
    left, middle, right = (figure.add_subfigure(grid[0, column]) for column in range(3))

    axes = left.subplot_mosaic([["wave", "wave"], ["s1", "s2"]], height_ratios=(1, 1.1))
    shown.whole(axes["wave"])
    axes["wave"].set_title("one Kr-83m event, sum of all sensors")
    shown.zoom_s1(axes["s1"])
    shown.zoom_s2(axes["s2"])

    ax = middle.subplots()
    area = shown.sample.peaks.area_per_channel_pe[shown.s2]
    lit = draw_hit_pattern(ax, study.detector, area, side="top", **shown.positions())
    ax.set_title("its S2 in the top array")
    ax.legend(loc="lower right", bbox_to_anchor=(1.02, 1.0), ncols=2, borderaxespad=0, columnspacing=1)
    bar = middle.colorbar(lit, ax=ax, label="area [PE / sensor]", location="bottom", shrink=0.85, aspect=40)
    _plain_ticks(bar)

    band, fit = right.subplots(2, 1, height_ratios=(1, 1.1))
    _populations(band, ((study.er_flat, SKY), (study.kr83m, ORANGE)))
    draw_band(band, study.band.centre_pe, study.band_fitted.quantiles, colour="black",
              label="flat ER, fitted model")  # fmt: skip
    band.set(**_band_limits(study))
    band.set_title("all events, reconstructed")
    _opaque(band.legend(loc="upper right"))
    _draw_fit_trajectory(fit, study.closure)
    fit.set_title("three parameters, fitted by gradient")
    return figure


def _opaque(legend: Legend) -> None:
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1)
