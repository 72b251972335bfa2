"""Set up where results are shared: `python -m scripts.remote URL` (make remote URL=...).

docs/remotes.md has the kinds of URL, their credentials and options.
"""

import sys
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException

from scripts import compat, remote_errors
from scripts.remote_kinds import SECRETS, install, kind_of
from sft.core.errors import UserError

NAME = "storage"
TRY = "`make remote URL=...` tries the remote alone."
AGAIN = "The URL is in .dvc/config: set what is missing, and run this again."


def set_up(url: str, folder: Path | str = ".") -> str:
    """Make `url` the default remote, try it, and return what to commit.

    The options that the remote has stay, unless it gets another URL. Raises UserError for a URL that cannot
    be used, where .dvc/config has a secret, where .dvc/config.local has options for another URL, and where
    the remote cannot be reached, read or written to.
    """
    kind = kind_of(url)
    if kind.package is None:
        url = str(Path(url).expanduser())
    committed, own = _configuration(folder, "repo"), _configuration(folder, "local")["remote"].get(NAME, {})
    options = committed["remote"].get(NAME, {})
    if secrets := sorted(set(SECRETS) & options.keys()):
        raise UserError(
            f".dvc/config: {secrets[0]}: a secret, in a file that is in Git. Take it out (dvc remote modify "
            f"--unset {NAME} {secrets[0]}), make it void, and put a new one where only this clone has it: "
            f"dvc remote modify --local {NAME} {secrets[0]} VALUE"
        )
    before = committed["remote"].get(committed["core"].get("remote"), {}).get("url")
    if options and not _same(options["url"], url):
        if own:
            raise UserError(
                f".dvc/config.local: {', '.join(sorted(own))}: set for {options['url']}, and not to be sent "
                f"to another. Remove it first: dvc remote remove --local {NAME}"
            )
        options = {}
    install(kind, folder)
    new = kind.package is None and not Path(url).exists()
    if not options or committed["core"].get("remote") != NAME or options.get("verify") != "true":
        compat.set_default_remote(folder, NAME, {**options, "url": options.get("url", url), "verify": "true"})
    if before and not _same(before, url):
        print(f"The default remote was {before}; what it has stays there.")
    with remote_errors.reported(url, f"{AGAIN} {kind.access}"), compat.dvc_repository(folder) as repo:
        if not compat.round_trip(compat.remote_storage(repo)):
            raise UserError(f"{url}: what was written did not come back as it was.")
    return (
        f"{url}: {'made the folder' if new else 'reached'}, written to and read. If the setting is new: "
        "git add .dvc/config && git commit -m 'Remote storage'. Then: make push"
    )


def configured(folder: Path | str = ".") -> str:
    """Return the default remote's URL, with what DVC needs for it installed.

    Raises UserError where no remote is set up, and where its folder is gone.
    """
    url = _default(folder)
    if not url:
        raise UserError("no remote is set up: make remote URL=... (docs/remotes.md)")
    check_there(folder)
    install(kind_of(url), folder)
    return url


def check_there(folder: Path | str = ".") -> None:
    """Raise UserError where the default remote is a folder that is not there.

    DVC takes it for an empty one, and a push makes it: under the mount point of a disk that is not mounted.
    """
    url = _default(folder)
    if url and "://" not in url and not Path(url).is_dir():
        raise UserError(
            f"{url}: the remote is this folder, and it is not there. Mount the disk that has it, if one has; "
            "`make remote URL=...` makes a new folder, or names where it is now."
        )


def _default(folder: Path | str) -> str | None:
    """Return the URL of the default remote, None where there is none."""
    configuration = _configuration(folder)
    url = configuration["remote"].get(configuration["core"].get("remote"), {}).get("url")
    return str(url) if url else None


def _configuration(folder: Path | str, level: str | None = None) -> dict[str, Any]:
    try:
        return compat.dvc_configuration(folder, level)
    except DvcException as error:
        raise UserError(f".dvc/config or .dvc/config.local: {remote_errors.cause(error)}") from error


def _same(url: str, other: str) -> bool:
    return url == other or ("://" not in url + other and Path(url).resolve() == Path(other).resolve())


if __name__ == "__main__":
    if len(sys.argv) != 2 or not sys.argv[1]:
        sys.exit(
            "usage: make remote URL=s3://BUCKET/PATH (or gs://, azure://, ssh://USER@HOST/PATH, a folder)"
        )
    remote_errors.run(lambda: set_up(sys.argv[1]), AGAIN)
