"""The constraints pin every package of the environment, those of requirements*.txt at the same versions."""

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import Version

from tests.imports import ROOT

ADVICE = "Run make lock, and commit what it writes."
PAIRS = [
    ("requirements-cpu.txt", "constraints.txt"),
    ("requirements.txt", "constraints-gpu.txt"),
    ("requirements-export.txt", "constraints.txt"),
    ("requirements-export.txt", "constraints-gpu.txt"),
    ("requirements-harness.txt", "constraints.txt"),
    ("requirements-harness.txt", "constraints-gpu.txt"),
    ("requirements-ray.txt", "constraints.txt"),
    ("requirements-ray.txt", "constraints-gpu.txt"),
    ("requirements-trackers.txt", "constraints.txt"),
    ("requirements-trackers.txt", "constraints-gpu.txt"),
    # Environments of their own.
    ("requirements-space.txt", "constraints-space.txt"),
    ("requirements-vllm.txt", "constraints-vllm.txt"),
]
# What the constraints must fit: pip reads one line a package there, chosen by such markers.
MACHINES = [
    {"python_version": version[:4], "python_full_version": version, "sys_platform": system, **machine}
    for version in ("3.11.9", "3.12.9")
    for system, machine in (
        ("linux", {"platform_system": "Linux", "platform_machine": "x86_64"}),
        ("darwin", {"platform_system": "Darwin", "platform_machine": "arm64"}),
    )
]


def requirements(path: Path) -> list[Requirement]:
    """Return the requirements of a file and of the files that it includes."""
    every: list[Requirement] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        line = line.partition("#")[0].strip()
        if line.startswith("-r "):
            every += requirements(path.with_name(line.removeprefix("-r ")))
        elif line:
            every.append(Requirement(line))
    return every


def pins(path: Path, machine: dict[str, str]) -> dict[NormalizedName, Version]:
    """Return each package's version on a machine; a package has one at most."""
    versions: dict[NormalizedName, Version] = {}
    for requirement in requirements(path):
        if requirement.marker is None or requirement.marker.evaluate(machine):
            name = canonicalize_name(requirement.name)
            (specifier,) = requirement.specifier
            assert specifier.operator == "==", f"{path.name}: {requirement} is no pin"
            assert name not in versions, f"{path.name}: {name} is there twice"
            versions[name] = Version(specifier.version)
    return versions


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: "-".join(list(machine.values())[1:3]))
@pytest.mark.parametrize(("required", "constraints"), PAIRS)
def test_requirements_and_constraints_agree(required: str, constraints: str, machine: dict[str, str]) -> None:
    named, locked = pins(ROOT / required, machine), pins(ROOT / constraints, machine)
    differing = {name: locked.get(name) for name, version in named.items() if locked.get(name) != version}
    assert not differing, f"{required} and {constraints} disagree on {', '.join(differing)}. {ADVICE}"


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: "-".join(list(machine.values())[1:3]))
def test_a_machine_with_a_gpu_gets_the_same_versions(machine: dict[str, str]) -> None:
    cpu, gpu = (pins(ROOT / constraints, machine) for _, constraints in PAIRS[:2])
    assert {name: gpu.get(name) for name in cpu} == cpu, ADVICE


@pytest.mark.parametrize("constraints", [constraints for _, constraints in PAIRS[:2]])
def test_constraints_name_public_versions_and_no_place(constraints: str) -> None:
    """A build for one kind of machine (+cpu) or an address would not do elsewhere."""
    text = (ROOT / constraints).read_text(encoding="utf-8")
    assert not re.search(r"\+|://|(^|\s)(/|--)|@", text), ADVICE
