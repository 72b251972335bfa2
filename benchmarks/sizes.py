"""What to use at which size: time, memory, disk and cost from 10 thousand to 100 million rows, as Markdown.

    python -m benchmarks.sizes [--price 3]

Computed from the measured figures below, by the formula that it prints and compares with them. After another
measurement put its figures here, run this, and put what it prints into docs/scaling.md: a test compares.
"""

import argparse
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class DataRun:
    """One measured run of standardize and mix on two cores, with the default's filters."""

    rows: int
    seconds: float
    peak_gib: float


# Random ShareGPT conversations of 2 to 6 turns: `python -m benchmarks.data_speed`.
DATA = (
    DataRun(100_000, 5.6, 0.76),
    DataRun(1_000_000, 20.9, 1.05),
    DataRun(5_000_000, 121.2, 1.71),
)
# Bytes a row of the input, measured on the same rows; standardized rows and mix are counted as large as it,
# each, which is not measured. DVC's cache shares them with the workspace by links.
INPUT_BYTES, COPIES = 920, 3

# docs/speed/train-llama.json: Llama-3.2-3B's architecture, engine trl, 16-bit, 24 rows a step, one H100.
TOKENS_A_ROW = 682
TOKENS_A_SECOND = 30_660
GPU_GIB = 42.4
LOAD_SECONDS = 24.2
# docs/speed/README.md: 32,000 such rows in 18 s on all cores of the GPU machine, beside other work.
TOKENIZED_A_SECOND = 32_000 * TOKENS_A_ROW / 18
# A token's number and its label, four bytes each; 600 bytes for a row's objects: counted, not measured.
TRAIN_BYTES = TOKENS_A_ROW * 8 + 600
# What each doubling of the devices gives: docs/several-gpus.md, measured on two cards.
DOUBLING = 1.97

SIZES = (10_000, 100_000, 1_000_000, 10_000_000, 100_000_000)
GPUS = (1, 2, 4, 8)
LOCAL_GIB = 64  # of memory on the machine that prepares the data: beyond it, Ray
PRICE = 3.0  # US dollars for an H100 and hour. An assumption, not a quotation


def fitted(values: list[float]) -> tuple[float, float]:
    """Return a and b of a + b * rows for values measured at DATA's sizes, by least relative squares."""
    measured = np.array(values)
    rows = np.array([run.rows for run in DATA])
    (a, b), *_ = np.linalg.lstsq(np.stack([1 / measured, rows / measured], 1), np.ones(len(rows)))
    return float(a), float(b)


SECONDS = fitted([run.seconds for run in DATA])
GIB = fitted([run.peak_gib for run in DATA])


def at(line: tuple[float, float], rows: int) -> float:
    """Return a line's value."""
    return line[0] + line[1] * rows


def training_seconds(rows: int, gpus: int) -> float:
    """Return the seconds that one epoch takes, tokenizing and loading included."""
    tokens = rows * TOKENS_A_ROW
    speed = TOKENS_A_SECOND * DOUBLING ** np.log2(gpus)
    return float(LOAD_SECONDS + tokens / TOKENIZED_A_SECOND + tokens / speed)


def duration(seconds: float) -> str:
    """Write seconds in the unit that fits."""
    for size, unit in ((2 * 86400, "days"), (2 * 3600, "h"), (120, "min")):
        if seconds >= size:
            return f"{seconds / {'days': 86400, 'h': 3600, 'min': 60}[unit]:.3g} {unit}"
    return f"{seconds:.3g} s"


def amount(number: float, unit: str) -> str:
    """Write a number of GB or GiB, in thousands where it is large."""
    if number >= 1000:
        return f"{number / 1000:.2g} T{unit[1:]}"
    return f"{number:.2g} {unit}" if number < 10 else f"{number:.0f} {unit}"


def dollars(number: float) -> str:
    """Write a price, in cents where it is small."""
    return f"${number:,.0f}" if number >= 100 else f"${number:.2f}"


def sizes_table(price: float) -> list[str]:
    """Return the table of all sizes; what is measured, not estimated, is bold."""
    heads = ["rows", "data by", "time, 2 cores", "memory", "disk", "memory to train"]
    heads += [f"{gpus} GPU{'s' * (gpus > 1)}" for gpus in GPUS]
    lines = [
        f"| {' | '.join([*heads, f'cost, {GPUS[0]} to {GPUS[-1]} GPUs'])} |",
        "|---" * (len(heads) + 1) + "|",
    ]
    for rows in SIZES:
        run = next((run for run in DATA if run.rows == rows), None)
        gib = at(GIB, rows)
        cells = [f"{rows:,}", "this machine" if gib <= LOCAL_GIB else "Ray"]
        if run:
            cells += [f"**{duration(run.seconds)}**", f"**{amount(run.peak_gib, 'GiB')}**"]
        else:
            cells += [duration(at(SECONDS, rows)), amount(gib, "GiB")]
        cells += [amount(rows * INPUT_BYTES * COPIES / 1e9, "GB"), amount(rows * TRAIN_BYTES / 2**30, "GiB")]
        cells += [duration(training_seconds(rows, gpus)) for gpus in GPUS]
        first, last = (training_seconds(rows, n) * n / 3600 * price for n in (GPUS[0], GPUS[-1]))
        lines.append(f"| {' | '.join([*cells, f'{dollars(first)} to {dollars(last)}'])} |")
    return lines


def check_table() -> list[str]:
    """Return the table that compares the formula with what was measured."""
    lines = ["| rows | measured | formula | | peak memory | formula | |", "|---" * 7 + "|"]
    for run in DATA:
        cells = [f"{run.rows:,}"]
        for value, line, unit in ((run.seconds, SECONDS, "s"), (run.peak_gib, GIB, "GiB")):
            cells += [
                f"{value:.3g} {unit}",
                f"{at(line, run.rows):.3g} {unit}",
                f"{at(line, run.rows) / value - 1:+.0%}",
            ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def formula(price: float) -> list[str]:
    """Return the formula, line by line."""
    return [
        f"data, seconds      = {SECONDS[0]:.3g} + {SECONDS[1] * 1e6:.3g} x million rows",
        f"data, GiB          = {GIB[0]:.3g} + {GIB[1] * 1e6:.3g} x million rows",
        f"disk, GB           = {COPIES} x {INPUT_BYTES / 1000:.3g} x million rows",
        f"training, GiB      = {TRAIN_BYTES * 1e6 / 2**30:.3g} x million rows of the machine's memory",
        f"tokens             = {TOKENS_A_ROW} x rows, once each (1 epoch)",
        f"training, seconds  = {LOAD_SECONDS} + tokens / {TOKENIZED_A_SECOND:,.0f} "
        f"+ tokens / ({TOKENS_A_SECOND:,} x {DOUBLING} ^ log2(GPUs))",
        f"cost, US dollars   = {price:g} x GPUs x hours of training",
    ]


def main() -> None:
    """Print the table, the formula and the check."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--price", type=float, default=PRICE, help="US dollars for a GPU and hour")
    price = parser.parse_args().price
    print("\n".join([*sizes_table(price), "", *formula(price), "", *check_table()]))


if __name__ == "__main__":
    main()
