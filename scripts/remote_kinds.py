"""The kinds of DVC remotes that `make remote` sets up: what each needs, and where its secrets go."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from importlib import invalidate_caches
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import urlsplit

from sft.core.errors import UserError

# What .dvc/config must not have: it is in Git.
SECRETS = (
    "access_key_id",
    "secret_access_key",
    "session_token",
    "connection_string",
    "sas_token",
    "account_key",
    "client_secret",
    "password",
    "passphrase",
)


@dataclass(frozen=True)
class Kind:
    """A kind of remote: the package that DVC needs for it (a folder none), and what it asks of the user."""

    package: str | None
    access: str


FOLDER = Kind(None, "The folder must be one that you may write to, mounted wherever it is used.")
KINDS = {
    "s3": Kind(
        "dvc-s3",
        "It needs credentials for the bucket: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE. "
        "Another server than Amazon's: dvc remote modify storage endpointurl https://HOST",
    ),
    "gs": Kind(
        "dvc-gs",
        "It needs credentials for the bucket: gcloud auth application-default login, or "
        "GOOGLE_APPLICATION_CREDENTIALS=KEY.json",
    ),
    "azure": Kind(
        "dvc-azure",
        "It needs the account, dvc remote modify storage account_name NAME, and az login; or "
        "AZURE_STORAGE_CONNECTION_STRING",
    ),
    "ssh": Kind(
        "dvc-ssh",
        "It needs a key that the host accepts (ssh-agent, ~/.ssh/config, or dvc remote modify --local "
        "storage keyfile PATH), and the host in ~/.ssh/known_hosts, where `ssh HOST` once puts it.",
    ),
}


def kind_of(url: str) -> Kind:
    """Return the kind of a remote; raise UserError for a URL that cannot be one or that has a secret in it.

    The message of such an error does not repeat the URL.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        if re.match(r"[\w.-]+@[\w.-]+:|[\w.-]{2,}:", url):
            raise UserError("a remote behind SSH is written ssh://USER@HOST/PATH")
        return FOLDER
    if scheme in ("http", "https"):
        raise UserError(
            f"{scheme}://: HTTP remotes carry no run cache (DVC leaves it out), so what was run beyond "
            "dvc.lock would run again in every clone. Use S3, GS, Azure, SSH or a folder."
        )
    if scheme not in KINDS:
        known = ", ".join(f"{name}://" for name in KINDS)
        raise UserError(f"{scheme}://: not known here. A remote's URL is a folder or begins with {known}")
    address = urlsplit(url)
    if address.password or "?" in rest or (address.username and scheme != "ssh"):
        raise UserError(
            f"{scheme}://: the URL has a secret in it, and .dvc/config is in Git. Leave it out, set the "
            "remote up, then put the secret where only this clone has it: dvc remote modify --local storage "
            f"OPTION VALUE (OPTION: {', '.join(SECRETS)}). {KINDS[scheme].access}"
        )
    if not address.hostname or (scheme == "ssh" and address.path in ("", "/")):
        whole = "ssh://USER@HOST/PATH" if scheme == "ssh" else f"{scheme}://BUCKET/PATH"
        raise UserError(f"{url}: not a whole URL: {whole}")
    return KINDS[scheme]


def install(kind: Kind, folder: Path | str = ".") -> None:
    """Install what DVC needs for a kind of remote, at the version that this project pins, if it is not there.

    Raises UserError where pip fails.
    """
    if kind.package is None or _installed(kind.package):
        return
    pins = (Path(folder) / "requirements-remotes.txt").read_text(encoding="utf-8").splitlines()
    (pinned,) = [line for line in pins if line.startswith(f"{kind.package}==")]
    # The two differ only in what needs a GPU.
    constraints = "constraints-gpu.txt" if _installed("unsloth") else "constraints.txt"
    print(f"Installing {pinned}", file=sys.stderr)
    command = [sys.executable, "-m", "pip", "install", "--quiet", pinned, "-c", constraints]
    result = subprocess.run(command, cwd=folder, env=os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"})
    if result.returncode:
        raise UserError(f"{pinned} could not be installed, and DVC needs it: pip says why above.")
    invalidate_caches()


def _installed(package: str) -> bool:
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False
