"""The programs of the export are other processes: none of them is left when the export ends early."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from sft.export import tools


def test_what_another_thread_runs_is_stopped(tmp_path):
    with ThreadPoolExecutor(1) as pool:
        sleeps = "import time; time.sleep(600)"
        running = pool.submit(tools.run, "timeit", "-n1", "-r1", sleeps, writes=tmp_path / "nothing")
        while not tools._running and not running.done():
            threading.Event().wait(0.01)
        tools.stop()
        with pytest.raises(tools.ToolFailed):
            running.result()
    assert tools._running == []
