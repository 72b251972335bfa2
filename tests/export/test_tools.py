"""The programs of the export are other processes: none of them is left when the export ends early."""

import threading

import pytest

from scripts import export_scores
from sft.export import gguf_scoring, tools


def test_llama_cpp_ends_with_the_command(tmp_path, monkeypatch):
    """Else a fault of the adapter's scoring would be told when llama.cpp has read the whole file."""

    def sleep(*_):
        tools.run("timeit", "-n1", "-r1", "import time; time.sleep(60)", writes=tmp_path / "nothing")

    monkeypatch.setattr(gguf_scoring, "asked", lambda *_: {})
    monkeypatch.setattr(gguf_scoring, "told", sleep)
    files = [tmp_path / "one.gguf", tmp_path / "two.gguf"]
    with pytest.raises(KeyError), export_scores.side_by_side(files, None) as told:
        while not tools._running and not told[files[0]].done():
            threading.Event().wait(0.01)
        raise KeyError
    with pytest.raises(tools.ToolFailed):
        told[files[0]].result()
    assert told[files[1]].cancelled() and tools._running == []
