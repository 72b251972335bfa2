"""Versions of the adapter as Git tags `adapter@v1.2.0`: the form by which DVC and model registries know them.

`dvc artifacts get` finds the commit by such a tag (it reads them by GTO), and what to get by `artifacts:` in
dvc.yaml.
"""

import re

from scripts.revisions import git
from sft.core.errors import UserError

ARTIFACT = "adapter"  # its name in dvc.yaml
FIRST = "v1.0.0"
_VERSION = re.compile(r"v(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")


def tag_of(version: str) -> str:
    """Return the tag of a version."""
    return f"{ARTIFACT}@{version}"


def next_version(wanted: str | None = None) -> str:
    """Return the version that HEAD has or is to get: the one `wanted`, else the next after all there are.

    Raises UserError where `wanted` is none, or another commit has it, or HEAD has another.
    """
    if wanted is not None and not _VERSION.fullmatch(wanted):
        raise UserError(f"--version {wanted!r}: not a version such as v1.2.0.")
    here, all_versions = _versions("--points-at", "HEAD"), _versions()
    if here:
        if wanted not in (None, *here):
            raise UserError(f"--version {wanted}: this commit is {tag_of(here[-1])} already. Leave it out.")
        return wanted or here[-1]
    if wanted in all_versions:
        raise UserError(f"--version {wanted}: another commit is {tag_of(wanted)}. Take a version after it.")
    return wanted or _after(all_versions)


def tag(version: str, message: str) -> bool:
    """Tag HEAD, unless it has that tag; tell whether it was made. Raises UserError where Git fails."""
    if version in _versions("--points-at", "HEAD"):
        return False
    git("tag", "--annotate", "--message", message, tag_of(version), "HEAD")
    return True


def _versions(*options: str) -> list[str]:
    """Return the versions that have a tag, from first to last."""
    names = git("tag", "--list", *options, tag_of("v*")).split()
    found = [version for name in names if _VERSION.fullmatch(version := name.rpartition("@")[2])]
    return sorted(found, key=_numbers)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version[1:].split("."))


def _after(versions: list[str]) -> str:
    if not versions:
        return FIRST
    major, minor, _ = _numbers(versions[-1])
    return f"v{major}.{minor + 1}.0"
