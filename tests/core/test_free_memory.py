"""What is free goes back to the system, as the system counts it."""

import platform

import psutil
import pytest

from sft.core.free_memory import give_back


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no malloc_trim")
def test_small_objects_leave_the_memory_though_others_lie_between_them() -> None:
    texts = [bytes([n % 256]) * 20_000 for n in range(4_000)]
    kept = texts[::50]
    full = psutil.Process().memory_info().rss
    del texts
    give_back()
    assert psutil.Process().memory_info().rss < full - 40_000_000
    assert kept[-1] == bytes([3_950 % 256]) * 20_000
