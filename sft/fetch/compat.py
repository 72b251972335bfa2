"""What pip's messages mean, none of which pip promises, and downloads of the hub's client taken up again.

tests/fetch/test_compat.py makes the installed ones say and do each of them.
"""

import importlib.metadata
import logging
import re
from enum import Enum, auto
from functools import cache
from pathlib import Path
from typing import Any

from sft.core.masking import Masking

_UNREACHABLE = re.compile(
    r"NewConnectionError|Failed to establish|Connection refused|ConnectTimeout|name resolution|getaddrinfo"
    r"|Name or service not known|Network is unreachable|ProxyError|Cannot connect to proxy|SSLError"
    r"|Could not fetch URL|Connection to \S+ timed out|HTTP error 5\d\d|50[234] \w+ Error"
)
_VERSIONS = re.compile(r"from versions: ([^)]*)\)")
_REFUSED = re.compile(r"Got\s+([0-9a-f]{64})")
_PROGRESS = re.compile(r"Progress (\d+) of (\d+)\s*")


class Complaint(Enum):
    """What pip complains of."""

    NO_PIP = auto()
    DISK_FULL = auto()
    NO_SUCH_VERSION = auto()
    UNREACHABLE = auto()
    NO_SUCH_PACKAGE = auto()


def complaint(stderr: str) -> Complaint | None:
    """Return what pip complains of; None for what another attempt may mend."""
    if "No module named pip" in stderr:
        return Complaint.NO_PIP
    if "No space left on device" in stderr:
        return Complaint.DISK_FULL
    if offered_versions(stderr):
        return Complaint.NO_SUCH_VERSION
    if _UNREACHABLE.search(stderr):
        return Complaint.UNREACHABLE
    if _VERSIONS.search(stderr) or "No matching distribution" in stderr:
        return Complaint.NO_SUCH_PACKAGE
    return None


def offered_versions(stderr: str) -> str:
    """Return the versions that the index has instead of the one asked for; empty where pip names none."""
    match = _VERSIONS.search(stderr)
    versions = match[1].strip() if match else ""
    return "" if versions == "none" else versions


def refused_checksum(stderr: str) -> str | None:
    """Return the SHA-256 of the file that pip refused because another was asked for."""
    match = _REFUSED.search(stderr)
    return match[1] if match and "DO NOT MATCH THE HASHES" in stderr else None


def pip_tells_progress() -> bool:
    """Tell whether this Python's pip knows --progress-bar=raw: from 24.1 on."""
    try:
        major, minor = importlib.metadata.version("pip").split(".")[:2]
        return (int(major), int(minor)) >= (24, 1)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return False


def progress_told(line: str) -> tuple[int, int] | None:
    """Return the bytes that have come and that there are, where a line of pip's tells them."""
    match = _PROGRESS.fullmatch(line)
    return (int(match[1]), int(match[2])) if match else None


@cache
def keep_partial_downloads() -> None:
    """Have huggingface_hub keep what has come of a file, and go on from there, in a later process too.

    It downloads to a name of the process's own and removes that when anything goes wrong, so that 6 GB which
    were killed at 5 start over: where file locks do nothing, two processes would spoil a common file. Here
    every file is checked against its hash afterwards (`hub.damaged`), so that would be noticed. What comes by
    Xet is left to it: it comes in no order. The addresses in what the library logs may be signed: masked.
    """
    from huggingface_hub import file_download

    logging.getLogger(file_download.__name__).addFilter(Masking())
    unresumed = file_download._download_to_tmp_and_move

    def resumed(incomplete_path: Path, destination_path: Path, **of: Any) -> None:
        by_xet = of["xet_file_data"] is not None and file_download.is_xet_available()
        if by_xet or of["force_download"] or destination_path.exists():
            return unresumed(incomplete_path, destination_path, **of)
        with incomplete_path.open("ab") as file:
            if of["expected_size"] is not None and file.tell() > of["expected_size"]:
                file.truncate(0)
            file_download.http_get(
                of["url_to_download"],
                file,
                resume_size=file.tell(),
                headers=of["headers"],
                expected_size=of["expected_size"],
                tqdm_class=of.get("tqdm_class"),
            )
        file_download._chmod_and_move(incomplete_path, destination_path)
        return None

    file_download._download_to_tmp_and_move = resumed  # type: ignore[assignment]
