"""The README's figure: one simulated Kr-83m decay in XENONnT, as waveform and hit pattern.

python docs/images/overview.py    writes overview.png beside this file
"""

from pathlib import Path

import jax
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

import dmsim
from dmsim.plot.hit_patterns import draw_hit_pattern
from dmsim.plot.style import BLUE, VERMILION, style
from dmsim.plot.waveforms import draw_event, draw_zoom, summed_waveform

SEED = 12


def main() -> None:
    """Simulate, reconstruct and draw."""
    mpl.use("Agg")
    detector = dmsim.load_detector("xenonnt")
    key = jax.random.key(SEED)
    deposits = dmsim.sources.kr83m(key, detector, n_events=1)
    records = dmsim.simulate_records(key, detector, deposits)
    peaks, events = dmsim.reconstruct(detector, records)
    s1, s2 = int(events.s1_peak[0]), int(events.s2_peak[0])

    def span(row: int) -> tuple[float, float]:
        start_ns = float(peaks.time_ns[row] - deposits.event_time_ns[0])
        return start_ns, start_ns + float(peaks.length_ns[row])

    waveform = summed_waveform(detector, records, 0)
    with style():
        figure, axes = plt.subplot_mosaic(
            [["event", "event", "pattern"], ["s1", "s2", "pattern"]],
            figsize=(10, 4.3),
            width_ratios=[1, 1, 1.25],
        )
        spans = {"S1": (*span(s1), BLUE), "S2": (*span(s2), VERMILION)}
        draw_event(axes["event"], waveform, spans, sample_ns=records.sample_ns)
        from_ns, to_ns = span(s1)[0] - 200, span(s1)[0] + 1500
        draw_zoom(
            axes["s1"],
            waveform,
            from_ns=from_ns,
            to_ns=to_ns,
            colour=BLUE,
            unit_ns=1,
            sample_ns=records.sample_ns,
        )
        from_ns, to_ns = span(s2)[0] - 2e3, span(s2)[1] + 2e3
        draw_zoom(
            axes["s2"],
            waveform,
            from_ns=from_ns,
            to_ns=to_ns,
            colour=VERMILION,
            unit_ns=1e3,
            sample_ns=records.sample_ns,
        )
        lit = draw_hit_pattern(
            axes["pattern"],
            detector,
            peaks.area_per_channel_pe[s2],
            side="top",
            true_mm=(float(deposits.x_mm[0]), float(deposits.y_mm[0])),
            found_mm=(float(events.x_mm[0]), float(events.y_mm[0])),
        )
        figure.colorbar(lit, ax=axes["pattern"], label="S2 area [PE]", shrink=0.7)
        energy_kev = float(np.sum(deposits.energy_kev))
        axes["event"].set_title(f"Kr-83m, {energy_kev:.1f} keV, simulated in XENONnT")
        axes["s1"].set_title("S1 of both steps")
        axes["s2"].set_title("S2")
        axes["pattern"].set_title("S2 on the top array")
        axes["pattern"].legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2)
        figure.savefig(Path(__file__).with_name("overview.png"), dpi=110)


if __name__ == "__main__":
    main()
