"""What is used of pyarrow beyond its public interface: tests/core/test_compat.py says what to look at."""

import sys
from importlib.abc import MetaPathFinder

import pyarrow as pa


class _NoPandas(MetaPathFinder):
    """Refuses to find pandas."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Raise ModuleNotFoundError for pandas."""
        if name == "pandas":
            raise ModuleNotFoundError(name)


def arrow_without_pandas() -> None:
    """Have pyarrow take pandas for not installed, in this process and those forked from it.

    The first time that it is given a list it imports pandas, to see whether that is one of pandas' arrays:
    0.35 s of a process, for one that uses no pandas. It tries once, so others may import pandas afterwards.
    """
    finder = _NoPandas()
    sys.meta_path.insert(0, finder)
    try:
        pa.array([0])
    finally:
        sys.meta_path.remove(finder)
