"""Addresses of data and models: hub repositories, Python packages and files, in one notation."""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from sft.core.errors import UserError

_HUB = re.compile(r"hf://(datasets/)?(?!datasets/|models/|spaces/)([\w.-]+/[\w.-]+)(?:@([^#@]+))?(?:#(.+))?")
_PYPI = re.compile(r"pypi://([A-Za-z0-9][\w.-]*)==([\w.+!-]+)(?:\?sha256=([0-9a-fA-F]{64}))?(?:#(.+))?")
FORMS = (
    "Understood: hf://datasets/ORG/NAME@REVISION[#GLOB], hf://ORG/NAME@REVISION (a model), "
    "pypi://PACKAGE==VERSION[?sha256=64 HEX DIGITS][#PART], or a path; #chosen behind any of them takes the "
    "chosen answers of preference data."
)


@dataclass(frozen=True)
class Address:
    """An address in parts; for a package `revision` is its version, for a file there is none.

    `name` is the repository, the package or the path, `fragment` what is chosen within it. `chosen`: of
    preference data the chosen answers are wanted.
    """

    uri: str
    scheme: Literal["dataset", "model", "pypi", "file"]
    name: str
    revision: str | None = None
    sha256: str | None = None
    fragment: str | None = None
    chosen: bool = False


def parse(uri: str) -> Address:
    """Take an address apart; what has no scheme is a path.

    Raises UserError, naming the understood forms, where it has none of them.
    """
    if match := _HUB.fullmatch(uri):
        dataset, name, revision, fragment = match.groups()
        return Address(uri, "dataset" if dataset else "model", name, revision, None, *_parts(fragment))
    if match := _PYPI.fullmatch(uri):
        name, version, sha256, fragment = match.groups()
        return Address(uri, "pypi", name, version, sha256.lower() if sha256 else None, *_parts(fragment))
    if uri.startswith("pypi://") and "==" not in uri:
        raise UserError(f"{uri}: names no version. Pin it: pypi://PACKAGE==VERSION. {FORMS}")
    path, _, fragment = uri.partition("#")
    if "://" in uri or not path.strip():
        raise UserError(f"{uri!r}: not an address of data or a model. {FORMS}")
    return Address(uri, "file", str(PurePosixPath(path)), None, None, *_parts(fragment))


def _parts(fragment: str | None) -> tuple[str | None, bool]:
    """Take `chosen` off the end of a fragment, which may choose files or a part before it."""
    before, _, last = (fragment or "").rpartition("#")
    return (before or None, True) if last == "chosen" else (fragment or None, False)
