"""A Git repository with a pipeline of stages that take no time: for tests about DVC's state alone.

What a stage writes says what it was made of. $TOY_MACHINE goes into the adapter, so that two machines make
different ones of the same inputs; $TOY_WAIT names a stage that waits, and says so in the file `waiting`.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from dvc.repo import Repo as DvcRepo

from tests.pipeline_repo import ROOT, Repo

STAGES = ("check", "mix", "train", "evaluate", "plot")
PARAMS = """data:
  size: 100
train:
  learning_rate: 0.1
evaluate:
  examples: 3
plot:
  dpi: 40
"""
PIPELINE = """stages:
  check:
    cmd: python -S stages/check.py
    params: [data.size, train.learning_rate, evaluate.examples, plot.dpi]
    deps: [stages/check.py]
    outs: [data/params-checked.txt]
  mix:
    cmd: python -S stages/mix.py
    params: [data.size]
    deps: [data/params-checked.txt, stages/mix.py, data/raw]
    outs: [data/mix.txt]
    metrics: [metrics/mix.json: {cache: false}]
  train:
    cmd: python -S stages/train.py
    params: [train.learning_rate]
    deps: [data/params-checked.txt, stages/train.py, data/mix.txt]
    outs: [models/adapter]
    metrics: [metrics/train.json: {cache: false}]
    plots: [provenance/train.json: {cache: false}]
  evaluate:
    cmd: python -S stages/evaluate.py
    params: [evaluate.examples]
    deps: [data/params-checked.txt, stages/evaluate.py, models/adapter]
    outs: [data/answers.txt]
    metrics: [metrics/evaluate.json: {cache: false}]
  plot:
    cmd: python -S stages/plot.py
    params: [plot.dpi]
    deps: [data/params-checked.txt, stages/plot.py, metrics/evaluate.json]
    plots: [plots/gain.csv: {cache: false}]
"""
SCRIPT = """import hashlib, json, os, pathlib, sys, time

name, params, read, write = {name!r}, {params!r}, {read!r}, {write!r}
with open(os.environ["TOY_LOG"], "a") as log:
    log.write(name + "\\n")
values = pathlib.Path("params.yaml").read_text()
if os.environ.get("TOY_WAIT") == name:
    pathlib.Path(os.environ["TOY_LOG"]).with_name("waiting").touch()
    deadline = time.time() + float(os.environ.get("TOY_SECONDS", "60"))
    while time.time() < deadline and not (os.environ.get("TOY_ORPHAN") and os.getppid() == 1):
        time.sleep(0.02)
made = [name, *(line.strip() for line in values.splitlines() if params and line.strip().startswith(params))]
made += [pathlib.Path(path).read_text() for path in read]
if name == "train":
    made.append(os.environ.get("TOY_MACHINE", "here"))
text = " | ".join(made).replace("\\n", " ")
for path in write:
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    if path.startswith("provenance"):
        record = {{"seconds": {{"load": 5.0, "train": 120.0}}, "device": "cpu (x86_64, 2 threads)"}}
        record |= {{"versions": {{"python": "3.11.0", "torch": "0.1"}}}}
        pathlib.Path(path).write_text(json.dumps(record))
    elif path.endswith(".json"):
        of = int(hashlib.md5(text.encode()).hexdigest()[:6], 16)
        pathlib.Path(path).write_text(json.dumps({{"length": len(text), "of": of}}))
    elif path.endswith(".csv"):
        pathlib.Path(path).write_text("x,y\\n1," + str(len(text)) + "\\n")
    else:
        pathlib.Path(path).write_text(text)
"""
FILES = {  # of each stage: its params, what it reads and writes
    "check": ((), [], ["data/params-checked.txt"]),
    "mix": (("size",), [], ["data/mix.txt", "metrics/mix.json"]),
    "train": (
        ("learning_rate",),
        ["data/mix.txt"],
        ["models/adapter/weights", "metrics/train.json", "provenance/train.json"],
    ),
    "evaluate": (
        ("examples",),
        ["models/adapter/weights"],
        ["data/answers.txt", "metrics/evaluate.json"],
    ),
    "plot": (("dpi",), ["metrics/evaluate.json"], ["plots/gain.csv"]),
}


class Toy(Repo):
    """The repository; its stages append their names to `log`."""

    @property
    def log(self) -> Path:
        return self.path.with_name(f"{self.path.name}.log")

    @property
    def env(self) -> dict[str, str]:
        return super().env | {"TOY_LOG": str(self.log), "PYTHONPATH": str(ROOT)}

    def ran(self) -> list[str]:
        """Return the stages that have run since this was asked last."""
        names = self.log.read_text().split() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return names

    def write(self, path: str, text: str) -> None:
        (self.path / path).parent.mkdir(parents=True, exist_ok=True)
        (self.path / path).write_text(text, encoding="utf-8")

    def read(self, path: str) -> str:
        return (self.path / path).read_text(encoding="utf-8")

    @contextlib.contextmanager
    def here(self) -> Iterator[None]:
        """Be in the repository, with its environment, in this process."""
        with contextlib.chdir(self.path), mock.patch.dict(os.environ, self.env, clear=True):
            yield

    def repro(self, **env: str) -> list[str]:
        """Run the pipeline in this process, where a DVC of its own would take a second; return what ran."""
        self.ran()
        with self.here(), mock.patch.dict(os.environ, env), DvcRepo() as dvc:
            dvc.reproduce()
        return self.ran()

    def check_out(self) -> None:
        """Have the data of what is checked out."""
        with DvcRepo() as dvc:
            dvc.checkout(force=True)

    def clean(self) -> bool:
        """Tell whether DVC finds nothing to do."""
        return not self.changed_stages()


def create(path: Path) -> Toy:
    """Make the repository, with one commit of a pipeline that has run."""
    toy = Toy(path, path.with_name("wheels"))
    toy.write("dvc.yaml", PIPELINE)
    toy.write("params.yaml", PARAMS)
    toy.write("data/raw/README.md", "Files of the user's own.\n")
    for name, (params, read, write) in FILES.items():
        text = SCRIPT.format(name=name, params=params, read=read, write=write)
        toy.write(f"stages/{name}.py", text)
    for name in (".gitattributes", ".dvc/config", ".dvc/.gitignore", ".gitignore"):
        toy.write(name, (ROOT / name).read_text(encoding="utf-8"))
    toy.git("init", "--quiet", "--initial-branch", "main")
    toy.commit("pipeline")
    toy.repro()
    toy.commit("run")
    return toy


def metrics(toy: Toy) -> dict[str, object]:
    """Return all metrics; fails where a file is no JSON, as one with conflict markers."""
    return {path.name: json.loads(path.read_text()) for path in sorted((toy.path / "metrics").glob("*.json"))}
