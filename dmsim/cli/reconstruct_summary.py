"""What `dmsim reconstruct` says and draws at the end of a run."""

from pathlib import Path
from typing import Any

from dmsim.cli.reconstruct import FIGURE
from dmsim.cli.reconstruct_run import SET_ASIDE, Result
from dmsim.io.provenance import FILE_NAME
from dmsim.io.reconstruction import read_events
from dmsim.io.records_input import RecordsInput
from dmsim.pipeline.memory import peak_memory_mb
from dmsim.pipeline.run import Job


def figure_of(out: Path, detector: Any, *, anew: bool) -> Path:
    """Draw the events, if that has not been done.

    Args:
        out: output folder.
        detector: whose volume is outlined.
        anew: draw also where a figure is.
    """
    path = out / FIGURE
    if path.is_file() and not anew:
        return path
    import matplotlib as mpl

    mpl.use("Agg")  # no window, also where there is no display
    import matplotlib.pyplot as plt

    from dmsim.io.files import write_whole
    from dmsim.plot.summary import reconstructed_events

    figure = reconstructed_events(detector, read_events(out, partly=True))
    write_whole(path, lambda file: figure.savefig(file, format="png", dpi=130))
    plt.close(figure)
    return path


def summary(
    job: Job, result: Result, detector: Any, source: RecordsInput, figure: Path, warnings: list[str]
) -> list[str]:
    """The lines of the summary."""
    import numpy as np

    out, n_there = Path(job.out), len(result.receipts)
    events = read_events(out, partly=True)
    complete = np.isfinite(events.s1_pe) & np.isfinite(events.s2_pe)
    lines = []
    if not result.n_done:
        lines.append("Nothing to do: the files are there, from a run of the same provenance.")
    elif result.n_before:
        lines.append(f"Continued: {result.n_before} of {job.n_chunks} chunks were there already.")
    lines.append(
        f"{len(events)} events of {detector.name} from {source.folder}: {complete.sum()} with S1 and S2"
    )
    if complete.any():
        cs1, cs2 = np.median(events.cs1_pe[complete]), np.median(events.cs2_pe[complete])
        drift = np.median(events.drift_time_ns[complete]) / 1e3
        lines.append(f"  median   cS1 {cs1:.1f} PE, cS2 {cs2:.0f} PE, drift time {drift:.1f} us")
    lines += [f"  warning: {warning}" for warning in [*warnings, *_oddities(result, n_there)]]
    megabytes, cpu_s = result.total("bytes") / 1e6, result.total("cpu_seconds")
    rates = f"{megabytes:,.0f} MB of samples in {cpu_s:.1f} CPU-s"
    if cpu_s > 0:
        rates += f": {megabytes / cpu_s:.0f} MB and {len(events) / cpu_s:.1f} events a CPU-s"
    memory = max([peak_memory_mb(), *(r["counts"]["memory_mb"] for r in result.receipts.values())])
    at_borders = result.joined["counts"].get("peaks", 0) if result.joined else 0
    of_them = f" ({at_borders} of them from the borders of chunks)" if at_borders else ""
    lines += [
        f"  records  {result.total_records():>12,} rows       {rates}",
        f"  peaks    {result.total('peaks'):>12,} rows       {out / 'peaks'}{of_them}",
        f"  events   {len(events):>12,} rows       {out / 'events'}",
        f"  memory   {memory:>12,} MB at most in one process",
        f"  figure   {figure}",
    ]
    if result.set_aside:
        lines.append(f"  {len(result.set_aside)} of {job.n_chunks} chunks set aside ({SET_ASIDE} says why):")
        lines += [f"    chunk {chunk}: {why}" for chunk, why in sorted(result.set_aside.items())]
        lines.append("  mend them and give the command again: it completes the run")
    lines.append(f"  {n_there} of {job.n_chunks} chunks, provenance in {out / FILE_NAME}")
    return lines


def _oddities(result: Result, n_there: int) -> list[str]:
    """What in the records an operator wants to know of."""
    lines = []
    stuck: dict[str, int] = {}
    for receipt in result.receipts.values():
        for channel, n in receipt["counts"].get("stuck", {}).items():
            stuck[channel] = stuck.get(channel, 0) + n
    if stuck:
        names = ", ".join(
            f"{channel} ({n} records)" for channel, n in sorted(stuck.items(), key=lambda i: int(i[0]))
        )
        lines.append(f"channels that never leave the digitiser's floor: {names}")
    n_saturated = result.total("saturated")
    if n_saturated:
        lines.append(f"{n_saturated} of {result.total('peaks')} peaks have samples at the digitiser's floor")
    n_cut = result.total("cut")
    if n_cut:
        lines.append(
            f"{n_cut} times no silence came for 100 ms: records were cut at the largest gap, where S2s may "
            "stay apart"
        )
    if n_there and not result.total("peaks"):
        lines.append("no peak was found")
    return lines
