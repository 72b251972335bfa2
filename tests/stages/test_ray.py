"""On a Ray cluster, a node of which dies in the middle, standardize and mix write what they write here."""

import hashlib
import random
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sft.core import shards
from sft.core.params import load
from stages import mix, paths, standardize
from tests import ray_nodes
from tests.imports import ROOT

FILES = {"base": 10, "extra": 5}
ROWS = 50_000


def write_source(path: Path, rows: int, seed: int) -> None:
    """Write short conversations; some are in a file twice, some in several."""
    drawn = random.Random(seed)
    numbers = [drawn.randrange(ROWS) for _ in range(rows)]
    turns = [
        [{"from": "human", "value": f"What is {n}?"}, {"from": "gpt", "value": f"It is {n * n % 977}."}]
        for n in numbers
    ]
    pq.write_table(pa.table({"conversations": turns, "score": [n / 7 for n in numbers]}), path)


def written(folder: Path) -> dict[str, str]:
    """Return a hash of each file that the stages write."""
    files = [path for place in ("data", "metrics") for path in (folder / place).rglob("*") if path.is_file()]
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.parent.name != "raw"
    }


def run(folder: Path, values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    (folder / "data/raw").mkdir(parents=True)
    (folder / ".dvc").mkdir()  # where a stage writes what it needs on its way
    files = sum(FILES.values())
    for number, path in enumerate([*values["data"]["base"], *values["data"]["extra"]]):
        write_source(folder / path, ROWS // files, number)
    monkeypatch.chdir(folder)
    standardize.main(values)
    mix.main(values)
    return written(folder)


@ray_nodes.needs_ray
def test_a_cluster_writes_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = load(ROOT / "params.yaml")
    values["data"] |= {
        name: [f"data/raw/{name}{n}.parquet" for n in range(files)] for name, files in FILES.items()
    }
    values["data"] |= {"size": "25k"}
    values["data"]["holdout"] |= {"validation": 0.01}
    values["tasks"] = {
        "mine": values["tasks"]["question"] | {"source": "data/raw/base0.parquet", "holdout": 0.01}
    }
    monkeypatch.setattr(shards, "BYTES", 1 << 20)
    here = run(tmp_path / "here", values, monkeypatch)
    assert len(shards.paths(paths.BASE)) > 4 and shards.count(paths.MIX) == 25_000

    with ray_nodes.started(2) as nodes:
        third, over = nodes.add(), threading.Event()
        folder, killed = tmp_path / "cluster", []

        def kill() -> None:
            while not over.wait(0.01):
                if any((folder / ".dvc").rglob("*.arrow")) and nodes.works(third):
                    nodes.kill(third)
                    killed.append(third)
                    return

        killer = threading.Thread(target=kill)
        killer.start()
        monkeypatch.setenv("SFT_RAY", nodes.address)
        try:
            there = run(folder, values, monkeypatch)
        finally:
            over.set()
            killer.join()
    assert killed and there == here
