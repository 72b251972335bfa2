"""Calls on a real Ray cluster: order, what is raised, nodes and processes that die, clusters of no use."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from sft.core.errors import MissingFile, ParamError, UserError
from sft.core.files import write_text
from tests import ray_nodes
from tests.imports import ROOT
from tests.ray_nodes import needs_ray


@pytest.fixture(scope="module")
def nodes() -> Iterator[ray_nodes.Nodes]:
    with ray_nodes.started(2) as nodes:
        yield nodes


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def workers(nodes, folder):
    from sft.core.ray_workers import RayWorkers

    return RayWorkers(nodes.address)


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@needs_ray
def test_results_come_in_order_from_calls_in_this_folder(workers, folder, monkeypatch):
    Path("bound.txt").write_text("bound")
    table = np.arange(300_000)  # more than Ray sends within a message

    def work(item):
        time.sleep(0.2 if item == 0 else 0)  # the first is the last to end
        write_text(f"{item}.txt", f"{item} {Path('bound.txt').read_text()}")
        own = table[item : item + 2]
        own += 1
        return item, os.getpid(), Path.cwd(), table[item:], np.arange(2)

    results = list(workers.map(work, range(20)))
    assert [item for item, *_ in results] == list(range(20))
    assert {cwd for _, _, cwd, _, _ in results} == {folder}
    assert os.getpid() not in {pid for _, pid, *_ in results}
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [*(f"{i}.txt" for i in range(20)), "bound.txt"]
    )


@needs_ray
def test_few_calls_wait_in_ray_however_many_there_are(workers):
    from sft.core.ray_workers import PENDING

    taken = []

    def items():
        for item in range(1000):
            taken.append(item)
            yield item

    results = workers.map(lambda item: item, items())
    assert [next(results) for _ in range(5)] == list(range(5))
    assert len(taken) <= 2 * PENDING + 4
    results.close()
    assert list(workers.map(lambda item: -item, range(3))) == [0, -1, -2]


@needs_ray
def test_what_a_call_raises_comes_out_as_it_is(workers):
    def work(error):
        raise error

    class Unsendable(Exception):
        def __init__(self, a, b):
            super().__init__(a)

    errors = [
        UserError("a.json: row 3"),
        ParamError("data.size: no"),
        MissingFile("none.parquet"),
        OSError(28, "full", "x"),
    ]
    for error in errors:
        with pytest.raises(type(error)) as raised:
            list(workers.map(work, [error]))
        assert type(raised.value) is type(error) and str(raised.value) == str(error)
        assert vars(raised.value).keys() >= vars(error).keys()
    assert raised.value.filename == "x"

    def divide(item):
        return 1 / item

    results = workers.map(divide, [1, 2, 0, 4])
    assert [next(results), next(results)] == [1, 0.5]
    with pytest.raises(ZeroDivisionError) as raised:
        next(results)
    assert "in divide" in raised.value.__notes__[0]  # the node's traceback
    with pytest.raises(RuntimeError, match="Unsendable: one"):
        list(workers.map(lambda _: work(Unsendable("one", "two")), [0]))


@needs_ray
def test_a_killed_node_loses_nothing(workers, nodes, folder):
    third = nodes.add()

    def work(item):
        time.sleep(0.05)
        write_text(f"{item:03}.txt", f"row {item}\n" * 1000)
        import ray

        return item, ray.get_runtime_context().get_node_id()

    end = 1000  # until the third node has worked and is killed, and 20 more

    def items():
        item = 0
        while item < end:
            yield item
            item += 1

    done = 0
    for item, node in workers.map(work, items()):
        assert item == done
        done += 1
        if node == third.node_id and end == 1000:
            nodes.kill(third)
            end = done + 20
    nodes.remove(third)
    assert 20 < done < 1000
    written = sorted(folder.glob("[0-9]*.txt"))
    assert [path.name for path in written] == [f"{item:03}.txt" for item in range(done)]
    assert all(path.read_text() == f"row {item}\n" * 1000 for item, path in enumerate(written))


@needs_ray
def test_a_call_that_kills_its_process_again_and_again_is_given_up(nodes, folder, monkeypatch):
    from sft.core import ray_workers

    monkeypatch.setattr(ray_workers, "RETRIES", 0)
    workers = ray_workers.RayWorkers(nodes.address)
    with pytest.raises(UserError, match=r"lost a call 1 times.*out of memory"):
        list(workers.map(lambda _: os._exit(1), [0]))


@needs_ray
def test_a_signal_ends_what_is_waited_for_and_the_calls(workers, folder):
    """Ray replaces the handler of SIGTERM; ours is there, and what it raises ends the calls."""

    class Stopped(KeyboardInterrupt):
        pass

    def stop(*_):
        raise Stopped

    def work(item):
        Path(f"{item}.pid").write_text(f"{os.getpid()}\n")
        time.sleep(600)

    def running():
        return [int(path.read_text()) for path in folder.glob("*.pid") if path.read_text().endswith("\n")]

    def send():
        wait_until(lambda: len(running()) == 2)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        threading.Thread(target=send).start()
        with pytest.raises(Stopped):
            list(workers.map(work, range(8)))
    finally:
        signal.signal(signal.SIGTERM, before)
    wait_until(lambda: not any(psutil.pid_exists(pid) for pid in running()))
    assert len(running()) == 2  # the others never began
    assert list(workers.map(lambda item: item, range(3))) == [0, 1, 2]


@needs_ray
def test_the_stages_handler_of_sigterm_is_kept(nodes, folder):
    import ray

    from sft.core import ray_cluster

    ray.shutdown()
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        ray_cluster.connect(nodes.address)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


@needs_ray
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a node other mounts")
def test_a_node_that_does_not_see_the_folder_is_named(nodes, workers, folder):
    """A node to which another, empty folder lies at the same path."""
    from sft.core import ray_cluster
    from sft.core.ray_workers import RayWorkers

    (folder / "rows.parquet").touch()
    start = f"ray start --address {nodes.address} --num-cpus 1 --object-store-memory 80000000 --block"
    apart = ["unshare", "--mount", "sh", "-c", f"mount -t tmpfs none '{folder}' && exec {start}"]
    before = len(ray_cluster.nodes_alive())
    process = subprocess.Popen(apart, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: len(ray_cluster.nodes_alive()) > before)
        with pytest.raises(UserError, match=f"does not see what is in {folder}.* shared file system"):
            RayWorkers(nodes.address)

        def read(_):
            raise MissingFile(folder / "rows.parquet")

        # One that has joined since: what a call of it misses is here.
        with pytest.raises(UserError, match=r"does not see .*rows\.parquet, which this machine does"):
            list(workers.map(read, [0]))
    finally:
        process.terminate()
        process.wait()
    wait_until(lambda: len(ray_cluster.nodes_alive()) == before)


@needs_ray
def test_a_node_of_other_versions_is_named(nodes, folder, monkeypatch):
    from sft.core import ray_cluster
    from sft.core.ray_workers import RayWorkers

    ours = ray_cluster.versions()
    monkeypatch.setattr(ray_cluster, "versions", lambda: {**ours, "pyarrow": "1.0"})
    with pytest.raises(UserError, match=r"pyarrow .*other versions") as raised:
        RayWorkers(nodes.address)
    assert socket.gethostname() in str(raised.value)
    assert not list(folder.glob(".*"))  # the file that the nodes looked for


@needs_ray
def test_a_cluster_without_room_for_a_call_is_refused(nodes, workers):
    from sft.core import ray_cluster

    with pytest.raises(UserError, match=r"none of the 2 nodes .* 1048576 MB of memory"):
        ray_cluster.capacity(nodes.address, 1 << 40)


@needs_ray
@pytest.mark.parametrize("scheme", ["", "ray://"])
@pytest.mark.parametrize("listens", [False, True])
def test_an_address_that_nobody_answers_at(scheme, listens, folder, monkeypatch):
    import ray

    from sft.core import ray_cluster
    from sft.core.ray_workers import RayWorkers

    ray.shutdown()
    monkeypatch.setattr(ray_cluster, "ANSWER", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"{scheme}127.0.0.1:{silent.getsockname()[1]}"
        if not listens:
            silent.close()
        with pytest.raises(UserError, match=f"no Ray cluster answers at {address}"):
            RayWorkers(address)


@needs_ray
@pytest.mark.parametrize("address", ["here", "http://127.0.0.1:1", "ray://host", "host:", "a b:1"])
def test_what_is_no_address_is_refused(address, folder):
    import ray

    from sft.core.ray_workers import RayWorkers

    ray.shutdown()
    with pytest.raises(UserError, match="is no address of a Ray cluster"):
        RayWorkers(address)


def test_without_ray_an_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    for name in ("ray_call", "ray_cluster", "ray_workers"):
        monkeypatch.delitem(sys.modules, f"sft.core.{name}", raising=False)
    with pytest.raises(UserError, match=r"SFT_RAY.*pip install -r requirements-ray.txt"):
        import sft.core.ray_workers  # noqa: F401


def test_ray_is_not_imported_without_being_asked_for():
    code = "import sys, stages.standardize, stages.mix; print({'ray', 'grpc'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout == "set()\n"
