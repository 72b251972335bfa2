"""The order of the tests: what takes long comes first, so that the processes of pytest-xdist end together."""

from collections.abc import Sequence
from itertools import islice
from typing import Any


def long_first(items: Sequence[Any], processes: int) -> list[Any]:
    """Order tests so that each process begins with its share of the modules that have tests marked `long`.

    A module's stay together, for they may share what is costly to set up. `worksteal` gives the processes
    equal numbers of consecutive tests; one that has none left takes half of what is last in another's.
    """
    long = [item for item in items if item.get_closest_marker("long")]
    modules = list(dict.fromkeys(item.path for item in long))
    others = (item for item in items if not item.get_closest_marker("long"))
    ordered: list[Any] = []
    for process in range(processes):
        share = [item for item in long if modules.index(item.path) % processes == process]
        count = (len(items) - len(ordered)) // (processes - process)
        ordered += [*share, *islice(others, max(0, count - len(share)))]
    return ordered
