"""What a rehearsal saw, as JSON and as the table of docs/rehearsal.md."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.data_speed.__main__ import machine
from benchmarks.rehearsal.running import Step
from benchmarks.rehearsal.served import Repository
from sft.core.files import read_json
from stages import paths

# The provenance of the stages that use the model, and of those that read all rows.
OF_MODEL = {
    "train": paths.PROVENANCE_TRAIN,
    "baseline": paths.PROVENANCE_BASELINE,
    "evaluate": paths.PROVENANCE_EVALUATE,
}
OF_ROWS = {"standardize": paths.PROVENANCE_STANDARDIZE, "mix": paths.PROVENANCE_MIX}


@dataclass
class Record:
    """What the hub served, and run by run its stages and what they wrote of themselves.

    `faults` are sentences: what failed, and what came out otherwise than it has to.
    """

    small: bool
    made: list[Repository] = field(default_factory=list)
    runs: dict[str, list[Step]] = field(default_factory=dict)
    written: dict[str, dict[str, Any]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def run(self, name: str) -> list[Step]:
        """Return the list for the stages of another run."""
        self.runs[name] = []
        return self.runs[name]

    def results(self, folder: Path, run: str) -> None:
        """Keep what the stages of a run wrote of themselves."""
        files = {**OF_MODEL, **OF_ROWS, "metrics": paths.METRICS_EVALUATE}
        self.written[run] = {name: read_json(folder / path) for name, path in files.items()}

    def as_json(self) -> dict[str, Any]:
        """Return all of it."""
        return {
            "small": self.small,
            "machine": machine(),
            "served": [repository.as_json() for repository in self.made],
            "runs": {run: [asdict(step) for step in steps] for run, steps in self.runs.items()},
            "written": self.written,
            "faults": self.faults,
        }

    def markdown(self) -> list[str]:
        """Return the table of stages, and what was served, by what machine and packages."""
        names = list(dict.fromkeys(step.name for steps in self.runs.values() for step in steps))
        by_run = [{step.name: step for step in steps} for steps in self.runs.values()]
        heads = ["stage", *(f"{run}, s" for run in self.runs), "memory, GiB", "of the GPU, GiB"]
        lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
        for name in names:
            steps = [of.get(name) for of in by_run]
            memory = max(step.memory for step in steps if step) / 2**30
            cells = [f"{step.seconds:.1f}" if step else "" for step in steps]
            lines.append(f"| {' | '.join([name, *cells, f'{memory:.2f}', self._of_gpu(name)])} |")
        totals = [f"{sum(step.seconds for step in steps):.1f}" for steps in self.runs.values()]
        lines += [f"| {' | '.join(['all', *totals, '', ''])} |", ""]
        lines += [
            f"Served: {of.name}, {of.bytes / 1e6:,.0f} MB, made in {of.seconds:.1f} s." for of in self.made
        ]
        for run, written in self.written.items():
            ran = [step.name for step in self.runs[run]]
            lines += ["", *_in_words(run, written, ran)]
        return [*lines, "", machine()]

    def _of_gpu(self, stage: str) -> str:
        peaks = [
            of[stage]["peak_memory_gib"]
            for of in self.written.values()
            if stage in OF_MODEL and not of[stage]["device"].startswith("cpu")
        ]
        return f"{max(peaks):.1f}" if peaks else ""


def _in_words(run: str, written: dict[str, Any], ran: list[str]) -> list[str]:
    train, mix = written["train"], written["mix"]
    lines = [
        f"{run}: {sum(mix['sources'].values()):,} rows in the mix, removed {mix['removed']}; training read "
        f"{train['rows_seen']} rows, {train['tokens_seen']:,} tokens, in {train['steps']} steps."
    ]
    for name in filter(ran.__contains__, OF_MODEL):
        of = written[name]
        phases = ", ".join(f"{phase} {seconds:.1f}" for phase, seconds in of["seconds"].items())
        lines.append(f"{name} on {of['device']}, seconds: {phases}.")
    versions = " ".join(f"{name} {version}" for name, version in train["versions"].items())
    return [*lines, f"Packages: {versions}."]
