"""What sft/fetch/compat.py uses: what the installed pip says, and parts of the installed hub client.

Where one fails, pip words it otherwise now: read what it said, and mend the patterns in sft/fetch/compat.py.
"""

import hashlib
import inspect
import os
import socket
import subprocess
import sys
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import file_download

from sft.fetch.compat import (
    Complaint,
    complaint,
    offered_versions,
    pip_tells_progress,
    progress_told,
    refused_checksum,
)

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


def test_how_pip_tells_its_progress(wheels: Path, tmp_path: Path) -> None:
    (wheel,) = wheels.iterdir()
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("tiny_data/file.bin", bytes(600_000))  # of smaller ones it tells nothing
    handler = partial(SimpleHTTPRequestHandler, directory=str(wheels))
    handler.log_message = lambda *_: None  # type: ignore[attr-defined]
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/{wheel.name}"
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir"]
        command += ["--progress-bar=raw", "-d", str(tmp_path), address]
        output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
        server.shutdown()
    assert pip_tells_progress(), LOOK + "nothing of its own version"
    told = [progress for line in output.splitlines() if (progress := progress_told(line))]
    size = wheel.stat().st_size
    assert told[-1] == (size, size), LOOK + output


def test_what_is_replaced_in_the_hub_s_client() -> None:
    """Where it fails, read `_download_to_tmp_and_move` anew: who calls it, and what becomes of its file."""
    parameters = list(inspect.signature(file_download._download_to_tmp_and_move).parameters)
    if parameters != ["incomplete_path", "destination_path", "of"]:  # else it is replaced already
        used = {
            "url_to_download",
            "headers",
            "expected_size",
            "force_download",
            "xet_file_data",
            "tqdm_class",
        }
        assert used <= set(parameters)
    assert {"url", "temp_file", "resume_size", "headers", "expected_size", "tqdm_class"} <= set(
        inspect.signature(file_download.http_get).parameters
    )
    assert callable(file_download._chmod_and_move) and callable(file_download.is_xet_available)
