"""DVC's cache on disk: objects named by their MD5 hash, and the run cache, which says what made them.

Both lie alike in a remote. Read here rather than through DVC, which takes 30 ms to make a stage of an entry;
tests/scripts/test_compat.py compares with what DVC finds.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path

import yaml

OBJECTS, RUNS = "files/md5", "runs"
# A hash of command, dependencies and params, and below it one for each result that these have had.
_ENTRY = re.compile(r"runs/[0-9a-f]{2}/[0-9a-f]{64}/[0-9a-f]{64}")


def is_entry(path: str) -> bool:
    """Tell whether a path in a cache is that of a run-cache entry."""
    return bool(_ENTRY.fullmatch(path))


def entries(cache: Path) -> list[str]:
    """Return the run-cache entries of a cache, by their path in it."""
    paths = sorted(path.relative_to(cache).as_posix() for path in (cache / RUNS).glob("*/*/*"))
    return [path for path in paths if is_entry(path)]


def object_path(digest: str) -> str:
    """Return where a cache has an object."""
    return f"{OBJECTS}/{digest[:2]}/{digest[2:]}"


def outputs(entry: Path) -> set[str]:
    """Return the hashes of the outputs that a run-cache entry names, with those of uncached metrics."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return {
        out["md5"]
        for out in yaml.load(entry.read_text(encoding="utf-8"), loader)["outs"]  # noqa: S506 (both are safe)
        if "md5" in out
    }


def with_content(hashes: Iterable[str], cache: Path) -> set[str]:
    """Return hashes and those of the files in folders, as far as the cache has the folders' lists."""
    found = set(hashes)
    for digest in [digest for digest in found if digest.endswith(".dir")]:
        listed = cache / object_path(digest)
        if listed.exists():
            found.update(file["md5"] for file in json.loads(listed.read_text(encoding="utf-8")))
    return found


def lacking(hashes: Iterable[str], cache: Path) -> set[str]:
    """Return those of the hashes whose object is not in the cache."""
    return {digest for digest in hashes if not (cache / object_path(digest)).exists()}


def total(hashes: Iterable[str], sizes: dict[str, int]) -> str:
    """Return how many objects there are and how large they are, for instance "12 objects (3.4 MiB)"."""
    counted = list(hashes)
    size = sum(sizes[object_path(digest)] for digest in counted) / 2**20
    return f"{len(counted)} object{'s' * (len(counted) != 1)} ({size:.1f} MiB)"
