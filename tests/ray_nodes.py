"""A real Ray cluster on the loopback: a head and further nodes, each a raylet of one core."""

import importlib.util
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

# In CI a test that is skipped would be one that nobody runs.
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None and not os.environ.get("CI"),
    reason="Ray is not installed: make install-test",
)


class Nodes:
    """The cluster's nodes; what is started here ends with it."""

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster

    @property
    def address(self) -> str:
        return self._cluster.address

    def add(self) -> Any:
        """Start one more node, and wait until the cluster knows of it."""
        node = self._cluster.add_node(num_cpus=1, memory=1 << 30, object_store_memory=80 << 20)
        self._cluster.wait_for_nodes()
        return node

    def works(self, node: Any) -> bool:
        """Tell whether a node makes a call just now, by the name that Ray gives to its processes."""
        with suppress(psutil.Error):
            processes = psutil.Process(_raylet(node)).children()
            return any(process.cmdline()[0].startswith("ray::run") for process in processes)
        return False

    def kill(self, node: Any) -> None:
        """Kill a node's raylet; its processes end with it."""
        os.kill(_raylet(node), signal.SIGKILL)

    def remove(self, node: Any) -> None:
        """Forget a node, killed or not."""
        self._cluster.remove_node(node, allow_graceful=False)


def _raylet(node: Any) -> int:
    return node.all_processes["raylet"][0].process.pid


@contextmanager
def started(nodes: int) -> Iterator[Nodes]:
    """Start a cluster; at the end disconnect from it and end it."""
    import ray
    from ray.cluster_utils import Cluster

    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    head = {
        "num_cpus": 1,
        "memory": 1 << 30,
        "object_store_memory": 80 << 20,
        "include_dashboard": False,
        # A killed node is known to be dead in seconds, not in a quarter of a minute.
        "_system_config": {"health_check_period_ms": 1000, "health_check_failure_threshold": 3},
    }
    cluster = Cluster(initialize_head=True, head_node_args=head)
    for number, handler in handlers.items():  # which Ray has put its own in place of
        signal.signal(number, handler)
    try:
        every = Nodes(cluster)
        for _ in range(nodes - 1):
            every.add()
        yield every
    finally:
        session = Path(cluster.head_node.get_session_dir_path())
        ray.shutdown()
        cluster.shutdown()
        shutil.rmtree(session, ignore_errors=True)
