"""Giving memory that is free back to the system, which allocators keep for what may come."""

import ctypes
from contextlib import suppress

import pyarrow as pa


def give_back() -> None:
    """Give back what Arrow and the C library keep, before processes are forked that need the room.

    After millions of small objects the C library's share is as large as they were: glibc gives back the end
    of its heap only, unless it is asked by malloc_trim, which other C libraries lack.
    """
    pa.default_memory_pool().release_unused()
    with suppress(AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
