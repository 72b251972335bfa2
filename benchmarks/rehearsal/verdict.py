"""What has to come out of a rehearsal, whatever the machine."""

from collections.abc import Iterator
from pathlib import Path

from benchmarks.rehearsal.record import Record
from benchmarks.rehearsal.scale import Scale
from sft.core.params import Count, load, parse_value
from stages.cli import PIPELINE

# What a larger mix does not change.
UNCHANGED = {"standardize", "baseline"}


def faults(folder: Path, record: Record, scale: Scale) -> list[str]:
    """Return a sentence for each thing that is otherwise than it has to be, after both runs in `folder`."""
    return [*_of_stages(folder, record), *_of_rows(record, scale), *_of_revisions(record)]


def _of_stages(folder: Path, record: Record) -> Iterator[str]:
    every = set(load(folder / PIPELINE)["stages"])
    expected = dict(zip(record.written, (every, every - UNCHANGED), strict=True))
    for run, stages in expected.items():
        if (ran := {step.name for step in record.runs[run]}) != stages:
            yield f"{run}: ran {', '.join(sorted(ran))}, not {', '.join(sorted(stages))}."


def _of_rows(record: Record, scale: Scale) -> Iterator[str]:
    *_, (larger, written) = record.written.items()
    mixed, size = sum(written["mix"]["sources"].values()), parse_value(scale.size, Count, "data.size")
    if mixed != size:
        yield f"{larger}: the mix has {mixed} rows, not {size}."
    accounts = [written["standardize"]["sources"][f"hf://datasets/{of.name}"] for of in record.made[1:]]
    for account in accounts:
        if not 0 < account["rejects"] < account["rows"] / 100:
            yield f"standardize: {account['rejects']} of {account['rows']} rows rejected: a few have to be."
    found = written["mix"]["removed"]["extra_in_base"]
    understood = accounts[0]["rows"]
    if not 0.9 * understood < found <= understood:  # a few are held out for validation
        yield f"mix: {found} rows of The-Tome were found to be FineTome's, of {understood}."


def _of_revisions(record: Record) -> Iterator[str]:
    for run, written in record.written.items():
        model, *data = record.made
        sources = written["standardize"]["sources"]
        resolved = {of.name: sources[f"hf://datasets/{of.name}"]["resolved"] for of in data}
        resolved[model.name] = written["evaluate"]["base_model"]["resolved"]
        for of in record.made:
            if resolved[of.name] != of.commit:
                yield f"{run}: {of.name} is recorded at {resolved[of.name]}, the hub has {of.commit}."
