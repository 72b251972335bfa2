"""The picture of time and memory over the number of rows."""

from pathlib import Path
from typing import Any

from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from benchmarks.data_speed.contestants import BOTH, DATASETS
from benchmarks.data_speed.table import GIB, Line
from sft.plotting.pipeline import ACCENT, BASE, TUNED, plt, save

LOOKS = {BOTH: ("standardize + mix", TUNED, "o"), DATASETS: ("datasets", ACCENT, "s")}
DPI = 110


def draw(path: Path, lines: list[Line]) -> None:
    """Draw seconds over rows, both logarithmic, with a line of what grows as the rows do, and the peaks."""
    figure, (time, memory) = plt.subplots(1, 2, figsize=(10, 4.2))
    for program, (label, color, marker) in LOOKS.items():
        found = sorted((line for line in lines if line.program == program), key=lambda line: line.rows)
        rows = [line.rows for line in found]
        look: dict[str, Any] = {"color": color, "marker": marker, "markersize": 5}
        time.plot(rows, [line.seconds for line in found], label=label, **look)
        memory.plot(rows, [line.memory / GIB for line in found], label=f"{label}: all processes", **look)
        memory.plot(
            rows,
            [line.largest_process / GIB for line in found],
            label=f"{label}: largest process, without files",
            linestyle="--",
            **look | {"markerfacecolor": "white"},
        )
    ours = max((line for line in lines if line.program == BOTH), key=lambda line: line.rows)
    ends = [min(line.rows for line in lines), ours.rows]
    time.plot(
        ends,
        [ours.seconds * rows / ours.rows for rows in ends],
        color=BASE,
        linestyle=":",
        zorder=1,
        label="in proportion to the rows",
    )
    time.set_yscale("log")
    time.yaxis.set_major_locator(FixedLocator([n * 10**power for power in range(-1, 5) for n in (1, 2, 5)]))
    time.yaxis.set_major_formatter(FuncFormatter(lambda seconds, _: f"{seconds:g}"))
    time.yaxis.set_minor_locator(NullLocator())
    memory.set_ylim(bottom=0)
    for axes, title, unit in ((time, "Time", "seconds"), (memory, "Peak memory", "GiB")):
        axes.set(title=title, xlabel="rows", ylabel=unit, xscale="log")
        axes.xaxis.set_major_locator(FixedLocator(sorted({line.rows for line in lines})))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda rows, _: f"{int(rows):,}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.legend(frameon=False, fontsize=8.5)
    save(figure, path, DPI)
