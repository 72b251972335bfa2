"""What goes wrong between DVC and a remote, in a sentence."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sft.core.errors import UserError
from stages.cli import described

# Mistakes of our own, whose traceback is wanted.
_OURS = (TypeError, AttributeError, NameError, AssertionError)


class Incomplete(Exception):
    """Some files did not get to the other side; the message says how many, and why the first did not."""


def stop_at(failed: list[BaseException], of: int, where: str) -> None:
    """Raise Incomplete if anything in `failed` went wrong on the way `where`, for instance "sent"."""
    if failed:
        raise Incomplete(f"{len(failed)} of {of} files could not be {where}. The first: {cause(failed[0])}")


@contextmanager
def reported(url: str, after: str) -> Iterator[None]:
    """Raise what a remote's client raises as a UserError: the URL, the cause, and `after`: what to do.

    Each client has its own family of exceptions. What DVC and the clients log meanwhile is left out: it is a
    traceback for each object.
    """
    try:
        with unlogged():
            yield
    except (UserError, *_OURS):
        raise
    except Exception as error:
        raise UserError(f"{url}: {cause(error)} {after}") from error


@contextmanager
def unlogged() -> Iterator[None]:
    """Leave out what is logged meanwhile, by DVC and everybody else."""
    before = logging.root.manager.disable
    logging.disable()
    try:
        yield
    finally:
        logging.disable(before)


def cause(error: BaseException) -> str:
    """Return what an exception says, in one line: its first, or that of its cause where it says nothing."""
    said = str(error).strip().splitlines()
    if not said and error.__cause__:
        return cause(error.__cause__)
    kind = "" if isinstance(error, Incomplete) else type(error).__name__
    return f"{': '.join(filter(None, (kind, *said[:1]))).rstrip('.')}."


def run(action: Callable[[], str], interrupted: str) -> None:
    """Print what `action` returns; a fault that the user can mend, or Ctrl-C, is one line and status 1."""
    try:
        print(action())
    except UserError as error:
        sys.exit(f"error: {described(error)}")
    except KeyboardInterrupt:
        sys.exit(f"interrupted. {interrupted}")
