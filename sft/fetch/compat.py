"""What pip's error messages mean: pip promises none of these sentences.

tests/fetch/test_compat.py makes the installed pip say each of them.
"""

import re
from enum import Enum, auto

_UNREACHABLE = re.compile(
    r"NewConnectionError|Failed to establish|Connection refused|ConnectTimeout|name resolution|getaddrinfo"
    r"|Name or service not known|Network is unreachable|ProxyError|Cannot connect to proxy|SSLError"
    r"|Could not fetch URL|Connection to \S+ timed out|HTTP error 5\d\d|50[234] \w+ Error"
)
_VERSIONS = re.compile(r"from versions: ([^)]*)\)")
_REFUSED = re.compile(r"Got\s+([0-9a-f]{64})")


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
