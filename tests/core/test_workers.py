"""One function on many items, in processes of this machine."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from sft.core import workers
from sft.core.errors import MissingFile, UserError
from sft.core.workers import LocalWorkers


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "cores", lambda: 2)


def test_results_come_in_the_items_order_from_other_processes() -> None:
    found = list(LocalWorkers().map(lambda item: (item, os.getpid()), range(20)))
    assert [item for item, _ in found] == list(range(20))
    assert os.getpid() not in {process for _, process in found}


def test_one_item_and_none_need_no_process() -> None:
    assert list(LocalWorkers().map(lambda _: os.getpid(), [1])) == [os.getpid()]
    assert list(LocalWorkers().map(lambda _: os.getpid(), [])) == []


def failing(error: Exception) -> Callable[[int], int]:
    def fail(item: int) -> int:
        if item == 3:
            raise error
        return item

    return fail


def test_what_is_raised_comes_out_as_it_is() -> None:
    with pytest.raises(UserError, match=r"^a fault$"):
        list(LocalWorkers().map(failing(UserError("a fault")), range(9)))
    with pytest.raises(MissingFile, match=r"^mix: no such file\.$") as caught:
        list(LocalWorkers().map(failing(MissingFile("mix")), range(9)))
    assert str(caught.value.path) == "mix"


def test_a_process_that_is_killed() -> None:
    def killed(item: int) -> int:
        if item == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return item

    with pytest.raises(UserError, match="a process that works on the rows was killed"):
        list(LocalWorkers().map(killed, range(9)))


def test_memory_of_a_container_that_holds_files_is_free(tmp_path: Path) -> None:
    sizes = {"memory.max": "8000000\n", "memory.current": "7000000\n"}
    sizes["memory.stat"] = "anon 400000\nfile 6500000\ninactive_file 5000000\nactive_file 1000000\n"
    for name, text in sizes.items():
        (tmp_path / name).write_text(text)
    assert workers._free_memory(tmp_path) == 8_000_000 - 7_000_000 + 6_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert workers._free_memory(tmp_path) > 8_000_000
