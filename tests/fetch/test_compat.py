"""The sentences of pip's that sft/fetch/compat.py reads, as the installed pip says them.

Where one fails, pip words it otherwise now: read what it said, and mend the patterns in sft/fetch/compat.py.
"""

import hashlib
import os
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from sft.fetch.compat import Complaint, complaint, offered_versions, refused_checksum

LOOK = "pip's messages have changed: mend the patterns in sft/fetch/compat.py. It says:\n"


def said(folder: Path, requirement: str, *index: str, python: tuple[str, ...] = ()) -> str:
    """Return what pip says of a download that must fail."""
    (folder / "requirements.txt").write_text(requirement)
    command = [sys.executable, *python, "-m", "pip", "download", "--no-input", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "--require-hashes", "--no-cache-dir", "--retries=1"]
    command += [*index, "-r", str(folder / "requirements.txt"), "-d", str(folder / "downloads")]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    environment = {**kept, "PIP_CONFIG_FILE": os.devnull, "NO_PROXY": "127.0.0.1"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert result.returncode != 0
    return result.stderr


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """Make a folder that pip takes for an index, with the version 1.0 of tiny-data."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    with zipfile.ZipFile(folder / "tiny_data-1.0-py3-none-any.whl", "w") as wheel:
        for name, text in (
            ("METADATA", "Metadata-Version: 2.1\nName: tiny-data\nVersion: 1.0\n"),
            ("WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"),
            ("RECORD", ""),
        ):
            wheel.writestr(f"tiny_data-1.0.dist-info/{name}", text)
    return folder


def test_pips_complaints(wheels: Path, tmp_path: Path) -> None:
    local = ("--no-index", "--find-links", str(wheels))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nowhere = ("--index-url", f"http://127.0.0.1:{free.getsockname()[1]}/simple/")
    checksum = f"--hash=sha256:{'0' * 64}"
    for requirement, index, python, expected in (
        ("tiny-typo==1.0", local, (), Complaint.NO_SUCH_PACKAGE),
        ("tiny-data==2.0", local, (), Complaint.NO_SUCH_VERSION),
        ("tiny-data==1.0", nowhere, (), Complaint.UNREACHABLE),
        ("tiny-data==1.0", local, ("-I", "-S"), Complaint.NO_PIP),
        ("tiny-data==1.0", local, (), None),
    ):
        message = said(tmp_path, f"{requirement} {checksum}", *index, python=python)
        assert complaint(message) == expected, LOOK + message


def test_what_pip_names_in_its_complaints(wheels: Path, tmp_path: Path) -> None:
    local = ("--no-index", "--find-links", str(wheels))
    message = said(tmp_path, f"tiny-data==2.0 --hash=sha256:{'0' * 64}", *local)
    assert offered_versions(message) == "1.0" and refused_checksum(message) is None, LOOK + message
    message = said(tmp_path, f"tiny-data==1.0 --hash=sha256:{'0' * 64}", *local)
    (wheel,) = wheels.iterdir()
    assert refused_checksum(message) == hashlib.sha256(wheel.read_bytes()).hexdigest(), LOOK + message
    message = said(tmp_path, f"tiny-typo==1.0 --hash=sha256:{'0' * 64}", *local)
    assert offered_versions(message) == "", LOOK + message
