"""report.html and result.json: one page that needs no other file, and the same numbers for programs."""

import base64
import html
import json
import math
import re
from pathlib import Path

from inference.demo.numbers import NOT_CONSTRAINED, rounded, significant
from inference.demo.output import RESULT
from inference.demo.report_style import CSS

_MIN_BAND_BINS = 4  # fewer say little about how far two bands are apart
_MINUS = re.compile(r"(?<![\w-])-(?=\d)")  # base64, in which the figures stand, has no hyphen

LEFT_OUT = (
    (
        "Afterpulses, dark counts, photoionisation and delayed electrons",
        "the preset has them, the demo turns them off: the fit's model is of the light that energy made, and "
        "reconstruction's bias above is without them",
    ),
    ("Pile-up", "each event is simulated and digitised on its own; a span of detector time is not"),
    (
        "Distorted drift field, gas gap, correlated noise",
        "the preset has no such tables: electrons drift straight up, and one gain holds everywhere",
    ),
    ("Sensors that are off or differ", "the preset takes all sensors as equal and on"),
    (
        "The two steps of Kr-83m",
        "taken as one deposit of 41.5 keV; as two, S1s more than about 230 ns apart are found as two",
    ),
)


def write_report(result: dict, figures: dict[str, Path], folder: Path) -> None:
    """Write both files.

    Args:
        result: all numbers, of `summary.summarize`.
        figures: PNG files by name.
        folder: to write to.
    """
    text = json.dumps(_finite(result), indent=2, allow_nan=False) + "\n"
    (folder / RESULT).write_text(text, encoding="utf-8")
    (folder / "report.html").write_text(_page(result, figures), encoding="utf-8")


def _finite(tree):
    """The same tree with null for what is not a number, which JSON does not know."""
    if isinstance(tree, dict):
        return {key: _finite(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_finite(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def _figure(figures: dict[str, Path], name: str, caption: str) -> str:
    data = base64.b64encode(figures[name].read_bytes()).decode("ascii")
    return (
        f'<figure><img src="data:image/png;base64,{data}" alt="{html.escape(caption, quote=True)}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def _table(head: list[str], rows: list[list[str]]) -> str:
    """A table whose first column is text and whose others are numbers. Cells are escaped."""

    def line(cells, tag):
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = "".join(line(row, "td") for row in rows)
    return f"<div class=scroll><table><thead>{line(head, 'th')}</thead><tbody>{body}</tbody></table></div>"


def _page(r: dict, figures: dict[str, Path]) -> str:
    sections = [
        ("What was done", _done(r)),
        ("One event", _event(r, figures)),
        ("The band", _band(r, figures)),
        ("Reconstruction against truth", _truth(r, figures)),
        ("Fitting the detector", _fit(r, figures)),
        ("Left out in this demo", _left_out()),
        ("This run", _run(r)),
    ]
    ids = [title.lower().replace(" ", "-") for title, _ in sections]
    contents = "".join(f'<a href="#{i}">{t}</a>' for i, (t, _) in zip(ids, sections, strict=True))
    body = "".join(
        f'<section id="{i}"><h2>{t}</h2>{text}</section>' for i, (t, text) in zip(ids, sections, strict=True)
    )
    body, cards = (_MINUS.sub("−", text) for text in (body, _cards(r)))
    name = html.escape(r["detector"]["name"])
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>dmsim demo: {name}</title><style>{CSS}</style></head><body><main>"
        f"<header><h1>A calibration of {name}</h1><p class=lead>{_lead(r)}</p><nav>{contents}</nav></header>"
        f"{cards}{body}<footer>dmsim {r['provenance']['version']}, {r['run']['finished']}</footer>"
        "</main></body></html>\n"
    )


def _lead(r: dict) -> str:
    kr, er = r["samples"]["kr83m"], r["samples"]["er_flat"]
    return (
        f"{kr['n_events']:,} decays of Kr-83m and {er['n_events']:,} flat electron recoils, simulated down "
        "to digitised waveforms, reconstructed, compared with what truly happened, and used to fit "
        f"{len(r['fit']['parameters'])} parameters of the detector by gradient."
    )


def _cards(r: dict) -> str:
    kr = r["comparison"]["kr83m"]
    n = sum(p["recovered"] for p in r["fit"]["parameters"])
    n_open = sum(not p["constrained"] for p in r["fit"]["parameters"])
    unconstrained = f"; {n_open} {NOT_CONSTRAINED}" if n_open else ""
    cards = (
        (f"{100 * kr['right']['fraction']:.1f} %", "of Kr-83m events: a clear S1 and S2, both right"),
        (f"{kr['s1_percent']['median']:+.2f} %", "median bias of the S1 area"),
        (f"{kr['s2_percent']['median']:+.2f} %", "median bias of the S2 area"),
        (f"{kr['z_mm']['median']:+.2f} mm", "median bias of the depth"),
        (f"{n} of {len(r['fit']['parameters'])}", f"parameters fitted back within tolerance{unconstrained}"),
    )
    return (
        "<div class=cards>" + "".join(f"<div><b>{v}</b><span>{t}</span></div>" for v, t in cards) + "</div>"
    )


def _done(r: dict) -> str:
    d = r["detector"]
    rows = [
        [
            s["name"],
            f"{s['n_events']:,}",
            f"{s['n_photons']:,}",
            f"{s['area_pe']:,.0f}",
            f"{s['n_records']:,}",
            f"{s['n_megabytes']:,.0f}",
            f"{s['n_peaks']:,}",
        ]
        for s in r["samples"].values()
    ]
    low, high = r["samples"]["er_flat"]["energy_kev"]
    return (
        f"<p>The detector is the preset {html.escape(d['name'])}: {d['n_sensors']} sensors, a drift of "
        f"{d['drift_length_mm']:g} mm in {d['field_v_per_cm']:g} V/cm. Decays of Kr-83m (both steps as one "
        f"deposit of 41.5 keV) and electron recoils, uniform from {low:g} to {high:g} keV, fill its volume. "
        "Photons and electrons follow NEST's yields; each detected photon becomes a pulse in a sensor, each "
        "sensor is digitised with noise and read out above a threshold. Reconstruction sees these records "
        "and nothing else.</p>"
        + _table(
            ["source", "events", "detected photons", "charge [PE]", "records", "samples [MB]", "peaks"], rows
        )
    )


def _event(r: dict, figures: dict[str, Path]) -> str:
    e = r["display"]
    found, true = e["position_mm"], e["true_position_mm"]
    return (
        f"<p>Event {e['event']} has {e['n_records']:,} records. Its S2 comes {e['drift_time_us']:,.1f} µs "
        f"after its S1, which puts it at z = {found[2]:,.1f} mm (true {true[2]:,.1f} mm); the light of the "
        f"S2 in the top array puts it at x = {found[0]:,.1f} mm, y = {found[1]:,.1f} mm (true "
        f"{true[0]:,.1f} mm, {true[1]:,.1f} mm).</p>"
        + _figure(figures, "waveform", "The event on a logarithmic scale (what lies under 0.05 PE a sample "
                  "is not drawn), its S1 and its S2.")
        + _figure(figures, "hit_pattern", "Light of the S2 and of the S1 in each sensor. The circle is the "
                  "wall of the active volume.")
    )  # fmt: skip


def _band(r: dict, figures: dict[str, Path]) -> str:
    b = r["band"]
    if b["n_bins"] < _MIN_BAND_BINS:
        bins = "bin" if b["n_bins"] == 1 else "bins"
        distance = f"In {b['n_bins']} {bins} it is too short to say how far the two lie apart."
    else:
        distance = (
            f"Its median lies {1e3 * b['rms_fitted_dex']:.1f} × 10⁻³ dex (rms over {b['n_bins']} bins) from "
            "the reconstructed one, whose own uncertainty is "
            f"{1e3 * b['median_error_dex']:.1f} × 10⁻³ dex a bin; "
            f"before the fit it was {1e3 * b['rms_start_dex']:.1f} × 10⁻³ dex."
        )
    return (
        "<p>Areas corrected for the place of the event, with the electron lifetime that the fit below found. "
        "The flat recoils take no part in the fit: their band is predicted by the fitted detector. "
        f"{distance}</p>"
        + _figure(figures, "band", "Left: true charge of each event. Right: as reconstructed, with the "
                  "median and the central 68 % of the flat recoils.")
    )  # fmt: skip


def _truth(r: dict, figures: dict[str, Path]) -> str:
    columns = [r["comparison"]["kr83m"], r["comparison"]["er_flat"]]

    def share(name, label):
        return [
            label,
            *(f"{100 * c[name]['fraction']:.1f} ± {100 * c[name]['error']:.1f} %" for c in columns),
        ]

    def bias(name, label, unit):
        return [label, *(f"{c[name]['median']:+.2f} ± {c[name]['error']:.2f} {unit}" for c in columns)]

    def width(name, label, unit):
        return [label, *(f"{c[name]['half_width_68']:.2f} {unit}" for c in columns)]

    quantities = (
        ("s1_percent", "S1 area", "%"),
        ("s2_percent", "S2 area", "%"),
        ("x_mm", "x", "mm"),
        ("y_mm", "y", "mm"),
        ("z_mm", "z", "mm"),
    )
    rows = [
        share("right", "a clear S1 and S2, both right"),
        share("single", "a clear S1 and S2"),
        *(bias(name, f"{label}, median bias", unit) for name, label, unit in quantities),
        *(
            width(name, f"{label}, resolution (half the central 68 %)", unit)
            for name, label, unit in quantities
        ),
    ]
    return (
        "<p>Truth is the charge of the photoelectrons of each signal, before the digitiser, and the place of "
        "the deposit. An S1 or S2 is clear if the next one has at most a tenth of its area. An event is "
        "right if both are clear, the S1 within 20 % or 5 PE of "
        "the truth, the S2 within 5 % or 50 PE, and the depth within 10 mm. The widths are those of "
        "digitising and reconstructing; the scatter of photon and electron counts is in the truth as well."
        "</p>"
        + _table(["", "Kr-83m", "flat ER"], rows)
        + _figure(figures, "resolution", "Residuals of each event; median ± half the central 68 %. What lies "
                  "outside a panel is counted in its outermost bins.")
    )  # fmt: skip


def _fit(r: dict, figures: dict[str, Path]) -> str:
    f = r["fit"]
    rows = [
        [
            f"{p['label']} [{p['unit']}]",
            significant(p["start"]),
            f"{rounded(p['fitted'], p['statistical'])} ± {rounded(p['statistical'], p['statistical'])}",
            significant(p["true"]),
            f"{p['pull']:+.2f}",
            f"{100 * p['reconstruction_shift'] / p['fitted']:+.2f} %",
            f"{100 * p['tolerance']:.1f} %",
            ("yes" if p["recovered"] else "no") if p["constrained"] else NOT_CONSTRAINED,
        ]
        for p in f["parameters"]
    ]
    freedom = "degree of freedom" if f["n_degrees_of_freedom"] == 1 else "degrees of freedom"
    c = f["correlation"]
    labels = [p["label"] for p in f["parameters"]]
    pairs = "; ".join(
        f"{labels[i]} and {labels[j]} {c[i][j]:+.2f}" for i in range(len(labels)) for j in range(i)
    )
    return (
        f"<p>Data are the uncorrected areas of {f['n_events']:,} reconstructed Kr-83m events in "
        f"{f['n_slices']} slices of drift time: the means of ln S1 and ln S2 in each "
        f"({f['n_left_out']} events are left out: no pair, outside the slices, or an area more than a "
        f"factor 2 off the line). The model simulates {f['n_model_events']:,} other events of the same "
        "source down to areas, with its random numbers held fixed. Gradients of χ² come from "
        f"differentiating that simulation. {f['n_adam_steps']} steps of Adam take χ² from "
        f"{f['chi2_start']:,.0f} to {f['chi2_adam']:.1f}, {f['n_newton_steps']} of Gauss-Newton to "
        f"{f['chi2']:.1f} at {f['n_degrees_of_freedom']} {freedom}; one more would move no "
        f"parameter by more than {f['next_step_sigma']:.2g} of its standard deviation.</p>"
        + _table(["parameter", "start", "fitted", "true", "pull", "area bias", "tolerance", "within"],
                 rows)
        + "<p>The uncertainty is statistical (curvature of χ², the model's own scatter included); the pull "
        "is ln(fitted / true) over it. The areas that reconstruction gives are slightly biased, and the fit "
        "takes them as they are: the column area bias is what that does to each parameter, to first "
        "order. The tolerance is three standard deviations plus that shift; a parameter that is uncertain by "
        "more than 50 % is not constrained and does not count as fitted back. Correlations: "
        f"{html.escape(pairs)}. Yields, field, extraction, double-photoelectron probability and the maps of "
        "light collection are taken as known. g1 and the single-electron gain count detected photons (phd); "
        "times 1 + the double-photoelectron probability they are in PE, as areas are.</p>"
        + _figure(figures, "fit", "Left: each parameter over its true value, with its uncertainty at the "
                  "end; Adam hands over to Gauss-Newton at the grey line. Middle and right: the data, the "
                  "model at the start and at the end.")
    )  # fmt: skip


def _left_out() -> str:
    items = "".join(f"<li><b>{html.escape(a)}:</b> {html.escape(b)}.</li>" for a, b in LEFT_OUT)
    return (
        "<p>Reconstruction has an easier task here than in a real detector. <code>dmsim simulate</code> has "
        f"all of these; this demo has not:</p><ul>{items}</ul>"
    )


def _run(r: dict) -> str:
    p, run = r["provenance"], r["run"]
    rows = [
        ["dmsim", f"{p['version']} (source {p['source_sha256'][:12]})"],
        ["detector", f"{p['detector']} (parameters {p['detector_sha256'][:12]})"],
        ["seed", str(p["seed"])],
        ["JAX", f"{p['jax_version']} on {run['device']}, {p['precision']}"],
        ["Python", run["python"]],
        ["CPUs of the machine", str(run["n_cpus"])],
        *([f"wall time: {name}", f"{seconds:.1f} s"] for name, seconds in run["wall_s"].items()),
        ["CPU time of the process", f"{run['cpu_s']:.1f} s"],
    ]
    return _table(["", ""], rows).replace("<thead><tr><th></th><th></th></tr></thead>", "") + (
        "<p>Wall times hold the compilation of programs that were not in JAX's cache. The same numbers stand "
        f"in <code>{RESULT}</code>, the figures in PNG files beside this page.</p>"
    )
