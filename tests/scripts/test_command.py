"""Commands without arguments: none is ignored, and a reader may stop reading."""

import os
import sys

import pytest

from scripts import command
from tests.toy_pipeline import Toy


@pytest.mark.parametrize("name", ["rescue", "restore", "merge_lock"])
def test_an_argument_is_no_reason_to_begin(toy: Toy, name: str) -> None:
    toy.write(".git/index.lock", "")  # which rescue removes
    (toy.path / "data/mix.txt").unlink()  # which restore gets
    shown = toy.script(name, "--help").stdout
    assert shown.startswith(f"usage: python -m scripts.{name} [-h]\n\n") and "options:" in shown
    refused = toy.script(name, "--dry-run", ok=False)
    assert refused.returncode == 2 and "unrecognized arguments: --dry-run" in refused.stderr
    assert (toy.path / ".git/index.lock").exists() and not (toy.path / "data/mix.txt").exists()


def test_a_closed_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["rescue"])
    reads, writes = os.pipe()
    os.close(reads)
    with os.fdopen(writes, "w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        command.run("rescue", __doc__, lambda: ["A line."])
        monkeypatch.undo()
