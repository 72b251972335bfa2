"""make audit: what pip-audit has found, and that what it could not look up is no good news."""

import json
import sys
from pathlib import Path

import pytest

from scripts import audit
from tests.imports import ROOT

PINS = ["constraints-gpu.txt", "constraints-vllm.txt"]
CLEAN = {"name": "jinja2", "version": "3.1.6", "vulns": [], "pins": PINS}
VULNERABLE = {
    "name": "jinja2",
    "version": "3.1.2",
    "pins": PINS,
    "vulns": [
        {"id": "PYSEC-2024-1", "fix_versions": ["3.1.3"], "aliases": [], "description": "..."},
        {"id": "PYSEC-2024-2", "fix_versions": [], "aliases": [], "description": "..."},
    ],
}
# What pip-audit 2.10.1 wrote of all packages, with the exit status 0, behind a mirror without advisories.
SKIPPED = {
    "name": "requests",
    "skip_reason": "Dependency not found on PyPI and could not be audited: requests",
}


@pytest.mark.parametrize(
    ("findings", "status", "lines"),
    [
        ([CLEAN], 0, ["1 packages looked up, none with a known vulnerability."]),
        (
            [VULNERABLE, CLEAN],
            1,
            [
                f"jinja2 3.1.2 ({', '.join(PINS)}): PYSEC-2024-1, fixed in 3.1.3",
                f"jinja2 3.1.2 ({', '.join(PINS)}): PYSEC-2024-2, no fix yet",
                "2 packages looked up, 1 with a known vulnerability.",
            ],
        ),
        (
            [SKIPPED] * 7,
            1,
            [
                "7 of 7 packages were not found at https://pypi.org, so nothing is known of them: "
                "requests, requests, requests, requests, requests and 2 more. Where"
            ],
        ),
        ([CLEAN, SKIPPED], 1, ["1 packages looked up, none", "1 of 2 packages were not found"]),
    ],
)
def test_what_is_told(findings: list[dict], status: int, lines: list[str]) -> None:
    said, exits_with = audit.told(findings)
    assert exits_with == status and len(said) == len(lines)
    assert all(line.startswith(begin) for line, begin in zip(said, lines, strict=True))


@pytest.mark.parametrize("answers", [True, False], ids=["an answer", "no network"])
def test_the_command(
    tmp_path: Path, answers: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A program in uv's place answers as pip-audit does, which is not installed and needs the network.

    Of the Space's packages it knows nothing bad.
    """
    uv = tmp_path / "uv"
    answer = {key: VULNERABLE[key] for key in ("name", "version", "vulns")}
    writes = (
        f"cat > ${{@: -1}} <<'X'\n{json.dumps({'dependencies': [answer], 'fixes': []})}\nX\n"
        'case "$*" in *constraints-space.txt*)\n'
        f"cat > ${{@: -1}} <<'X'\n{json.dumps({'dependencies': [], 'fixes': []})}\nX\n"
        "esac\n"
    )
    fails = "echo 'ConnectionError: Could not connect' >&2\n"
    uv.write_text(f'#!/usr/bin/env bash\nset -- "${{@/#--output=/}}"\n{writes if answers else fails}exit 1\n')
    uv.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(SystemExit) as exits:
        audit.main()
    if answers:
        said = capsys.readouterr().out.splitlines()
        assert exits.value.code == 1
        assert said[0] == f"Looking the packages of {', '.join(audit.PINS)} up at https://pypi.org ..."
        assert said[1] == f"jinja2 3.1.2 ({', '.join(PINS)}): PYSEC-2024-1, fixed in 3.1.3"
        assert said[-1] == "1 packages looked up, 1 with a known vulnerability."
    else:
        assert str(exits.value.code).startswith("error: the packages could not be looked up")
        assert "ConnectionError: Could not connect" in str(exits.value.code)


def test_the_pins_of_every_environment_are_looked_up() -> None:
    """But for constraints.txt, whose packages constraints-gpu.txt has too."""
    assert {*audit.PINS, "constraints.txt"} == {path.name for path in ROOT.glob("constraints*.txt")}
