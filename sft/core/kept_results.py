"""Finished parts of a long computation, kept in a file as they come: a killed run goes on from there."""

import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import xxhash

from sft.core.files import replacing

ANSWERS, LIKELIHOODS = "answers", "likelihoods"  # the kinds there are
_HASH = 16  # hex digits before a line's JSON


def key_of(*parts: Any) -> str:
    """Hash what a part is computed from, values that JSON has, to the key it is kept by."""
    return xxhash.xxh3_128_hexdigest(json.dumps(parts).encode())


class KeptResults:
    """Lists of results by kind and key, in a file that is appended to line by line; without a file, none.

    A line has a hash of its content. The last one, torn where the process was killed, does not count, nor do
    others that are damaged; of these a warning tells. `used` counts the results handed out, by kind, and
    `seconds` are those that they once took. Before the first result is kept `check` is called, which raises
    where none may be: by then all code that makes one is imported.
    """

    def __init__(self, path: Path | None = None, check: Callable[[], None] = lambda: None) -> None:
        self.path = path
        self._check = check
        self._checked = False
        self.used: Counter[str] = Counter()
        self.seconds = 0.0
        self._there: dict[tuple[str, str], tuple[float, list[Any]]] = {}
        if path is not None and path.exists():
            self._read(path)

    def there(self, kind: str) -> int:
        """Return how many results of a kind the file had."""
        return sum(len(results) for (of, _), (_, results) in self._there.items() if of == kind)

    def get(self, kind: str, key: str) -> list[Any] | None:
        """Return the results kept by a key; None where there are none."""
        if (kind, key) not in self._there:
            return None
        seconds, results = self._there[kind, key]
        self.used[kind] += len(results)
        self.seconds += seconds
        return results

    def put(self, kind: str, key: str, results: list[Any], seconds: float) -> None:
        """Keep results, values that JSON has, and the seconds that they took."""
        if self.path is not None:
            if not self._checked:
                self._check()
                self._checked = True
            line = _line([kind, key, seconds, results])
            with self.path.open("ab") as file:  # closed and so in the system's hands: a kill loses no line
                file.write(line)

    def _read(self, path: Path) -> None:
        *lines, torn = path.read_bytes().split(b"\n")
        sound, damaged = [], 0
        for line in lines:
            try:
                if _hashed(line[_HASH + 1 :]) + b" " != line[: _HASH + 1]:
                    raise ValueError("its content is another than its hash is of")
                kind, key, seconds, results = json.loads(line[_HASH + 1 :])
            except ValueError:
                damaged += 1
                continue
            self._there[kind, key] = seconds, results
            sound.append(line + b"\n")
        if damaged:
            print(
                f"warning: {path}: {damaged:,} of {len(lines):,} kept results are damaged; "
                "they are computed anew.",
                file=sys.stderr,
                flush=True,
            )
        if damaged or torn:
            with replacing(path) as temporary:
                temporary.write_bytes(b"".join(sound))


def _line(entry: list[Any]) -> bytes:
    content = json.dumps(entry).encode()
    return _hashed(content) + b" " + content + b"\n"


def _hashed(content: bytes) -> bytes:
    return xxhash.xxh3_64_hexdigest(content).encode()
