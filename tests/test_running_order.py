"""Long tests begin, each module's in one process, and none is lost."""

from dataclasses import dataclass

import pytest

from tests.running_order import long_first


@dataclass(frozen=True)
class Item:
    path: str
    name: int
    long: bool = False

    def get_closest_marker(self, name: str) -> bool:
        return name == "long" and self.long


ITEMS = [Item(path, n, long=path in "bdf" and n != 2) for path in "abcdefg" for n in range(5)]


@pytest.mark.parametrize("processes", [1, 2, 3, 4])
def test_each_process_begins_with_its_share(processes: int) -> None:
    ordered = long_first(ITEMS, processes)
    assert sorted(map(repr, ordered)) == sorted(map(repr, ITEMS))
    begins, rest, shares = 0, len(ITEMS), []
    for process in range(processes):  # as xdist's worksteal hands them out
        count = rest // (processes - process)
        given, begins, rest = ordered[begins : begins + count], begins + count, rest - count
        long = [item for item in given if item.long]
        assert given[: len(long)] == long
        shares.append({item.path for item in long})
    assert sum(map(len, shares)) == 3 and set.union(*shares) == set("bdf")
