"""A clone in which runs are started, with params of their own, and other commands are run."""

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from benchmarks.chaos.processes import QueueRun, Run
from stages.cli import PARAMS

LIMIT_SECONDS = 900


@dataclass(frozen=True)
class Repository:
    """A clone, the environment of its commands, and the mark that its processes carry."""

    folder: Path
    env: Mapping[str, str]
    mark: str

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, whatever it exits with."""
        return subprocess.run(
            command, cwd=self.folder, env=self.env, text=True, capture_output=True, timeout=LIMIT_SECONDS
        )

    def start(self, kind: str, params: Mapping[str, Any]) -> Run:
        """Start a run of a kind with these values in the place of those of params.yaml."""
        changes = [f"--set-param={name}={value}" for name, value in params.items()]
        if kind == "repro":
            set_params(self.folder / PARAMS, params)
            return Run(["dvc", "repro"], self.folder, self.env, self.mark)
        if kind == "queue":
            both = ["sh", "-c", 'dvc exp run --queue "$@" && dvc queue start', "sh", *changes]
            return QueueRun(both, self.folder, self.env, self.mark)
        return Run(["dvc", *kind.split(), *changes], self.folder, self.env, self.mark)


def set_params(path: Path, values: Mapping[str, Any]) -> None:
    """Put values into a params file, by names such as train.seed; its comments stay."""
    yaml = YAML()
    document = yaml.load(path.read_text(encoding="utf-8"))
    for name, value in values.items():
        *groups, leaf = name.split(".")
        part = document
        for group in groups:
            part = part[group]
        if leaf not in part:
            raise KeyError(name)
        part[leaf] = value
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(document, file)
