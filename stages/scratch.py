"""A folder for what a stage writes on its way and does not need at its end: gigabytes for millions of rows.

It lies in the repository, which all machines of a cluster see, under DVC's temporary files.
"""

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stages import kept_work


@contextmanager
def folder() -> Iterator[Path]:
    """Yield the folder, which is removed at the end; those that killed stages have left are removed too."""
    place = kept_work.place()
    if place is None:
        with tempfile.TemporaryDirectory() as temporary:
            yield Path(temporary)
        return
    place = place.with_name("scratch")
    place.mkdir(parents=True, exist_ok=True)
    for left in place.iterdir():
        if left.is_dir():
            _remove(left)
    path = place / uuid.uuid4().hex
    try:
        with kept_work.lock_of(path):  # before the folder is there, for what nobody holds is removed
            path.mkdir()
            yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        Path(kept_work.lock_of(path).lock_file).unlink(missing_ok=True)


def _remove(path: Path) -> None:
    """Remove a folder that no process holds."""
    with suppress(OSError, NotImplementedError), kept_work.lock_of(path):  # OSError: held, or another user's
        shutil.rmtree(path, ignore_errors=True)
        Path(kept_work.lock_of(path).lock_file).unlink(missing_ok=True)
