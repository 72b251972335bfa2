"""Known vulnerabilities of the pinned packages, by pip-audit: `make audit`.

pip-audit runs in an environment of its own, which uv makes: beside the pipeline it would replace pip, by
which the stages fetch models and data. It asks https://pypi.org, whatever index pip is configured for. Of a
package that is not found there it knows nothing, but says "No known vulnerabilities found" and exits with 0,
even where that is so of all packages, as behind a mirror. Here that is a failure.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from sft.core.errors import UserError

PIP_AUDIT = "pip-audit==2.10.1"
# Of all environments: constraints-gpu.txt holds all packages of constraints.txt at the same versions, as
# tests/test_constraints.py sees to.
PINS = ("constraints-gpu.txt", "constraints-space.txt", "constraints-vllm.txt")

Finding = dict[str, Any]


def look_up_all() -> list[Finding]:
    """Return pip-audit's findings, one for each version of a package; `pins` are the files that have it."""
    found: dict[tuple[str, str | None], Finding] = {}
    for pins in PINS:
        for package in look_up(pins):
            known = found.setdefault((package["name"], package.get("version")), {**package, "pins": []})
            known["pins"].append(pins)
    return list(found.values())


def look_up(pins: str) -> list[Finding]:
    """Return pip-audit's findings, a package each; raise UserError where it cannot ask."""
    uv = Path(sys.executable).with_name("uv")
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "found.json"
        command = [str(uv), "tool", "run", "--quiet", "--from", PIP_AUDIT, "pip-audit", "--requirement", pins]
        command += [
            "--no-deps",
            "--disable-pip",
            "--progress-spinner=off",
            "--format=json",
            f"--output={found}",
        ]
        result = subprocess.run(command, capture_output=True, text=True)
        if not found.exists():  # the exit status is 1 where it has found something, too
            said = (result.stderr.strip().splitlines() or [f"exit status {result.returncode}"])[-1]
            raise UserError(
                f"the packages could not be looked up, so nothing is known of them. pip-audit needs "
                f"https://pypi.org, and for its own installation the package index. It says: {said}"
            )
        findings: list[Finding] = json.loads(found.read_text(encoding="utf-8"))["dependencies"]
    return findings


def told(findings: list[Finding]) -> tuple[list[str], int]:
    """Return what is to be said, and the exit status: 0 where all was looked up and nothing found."""
    lines = [
        f"{package['name']} {package['version']} ({', '.join(package['pins'])}): {vulnerability['id']}, "
        + (f"fixed in {', '.join(fixes)}" if (fixes := vulnerability["fix_versions"]) else "no fix yet")
        for package in findings
        for vulnerability in package.get("vulns", [])
    ]
    vulnerable = sum(bool(package.get("vulns")) for package in findings)
    unknown = [package["name"] for package in findings if "skip_reason" in package]
    asked = len(findings) - len(unknown)
    if asked:
        lines.append(f"{asked} packages looked up, {vulnerable or 'none'} with a known vulnerability.")
    if unknown:
        names = ", ".join(unknown[:5]) + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")
        lines.append(
            f"{len(unknown)} of {len(findings)} packages were not found at https://pypi.org, so nothing is "
            f"known of them: {names}. Where that address leads to a mirror, it may have no advisories: run "
            "make audit where it does not."
        )
    return lines, 1 if vulnerable or unknown else 0


def main() -> None:
    """Look the pinned packages up, and print what is known of them."""
    print(f"Looking the packages of {', '.join(PINS)} up at https://pypi.org ...", flush=True)
    try:
        lines, status = told(look_up_all())
    except UserError as error:
        sys.exit(f"error: {error}")
    print("\n".join(lines))
    sys.exit(status)


if __name__ == "__main__":
    main()
