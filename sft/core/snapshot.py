"""Have files changed since? Their content at one time, to be compared with what is there later."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

# Code is no larger. Of a larger file, data, size and time of change tell: hashing it would take seconds.
SMALL = 1 << 20  # bytes
State = tuple[int, int, str]  # size, time of change, hash of a small file


class Snapshot:
    """The files of some paths, folders with all below them, as they are now."""

    def __init__(self, paths: Iterable[Path | str]):
        self._paths = [Path(path) for path in paths]
        self._then = self._states()

    def changed(self) -> list[str]:
        """Return the files that are new, gone or of another content, sorted."""
        now = self._states()
        return sorted(
            str(path)
            for path in self._then.keys() | now.keys()
            if _differ(self._then.get(path), now.get(path))
        )

    def _states(self) -> dict[Path, State]:
        return {file: _state(file) for path in self._paths for file in _files(path)}


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from (file for file in path.rglob("*") if file.is_file() and file.suffix != ".pyc")
    elif path.is_file():
        yield path


def _state(file: Path) -> State:
    found = file.stat()
    content = hashlib.sha256(file.read_bytes()).hexdigest() if found.st_size <= SMALL else ""
    return found.st_size, found.st_mtime_ns, content


def _differ(then: State | None, now: State | None) -> bool:
    if then is None or now is None:
        return then is not now
    return then[2] != now[2] if then[2] and now[2] else then[:2] != now[:2]
