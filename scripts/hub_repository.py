"""A model repository of the Hugging Face hub: whether we may write it, what it holds, one commit to it."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scripts.publishable import README, Files
from sft.core.errors import UserError
from sft.core.files import read_json, read_text
from sft.modeling.adapter import KEPT

GITATTRIBUTES = ".gitattributes"  # the hub makes it with the repository
_TOKEN = "Make one with write access at {}/settings/tokens, and set HF_TOKEN to it, or log in: hf auth login."


class Repository:
    """The repository `name`, ORG/NAME, of the hub at HF_ENDPOINT, by the token of HF_TOKEN or of a login.

    Every method raises UserError, which says what to do, where the hub cannot be reached or refuses.
    """

    def __init__(self, name: str):
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HFValidationError
        from huggingface_hub.utils import validate_repo_id

        self.name = name
        if "/" not in name:
            raise UserError(f"REPO={name}: names no user or organization. Write ORG/NAME.")
        try:
            validate_repo_id(name)
        except HFValidationError as error:
            raise UserError(f"REPO={name}: {str(error).splitlines()[0]}") from error
        # Read now: the client reads it when it is imported.
        self._api = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None)

    @property
    def url(self) -> str:
        """The repository's page."""
        return f"{self._api.endpoint}/{self.name}"

    def check_token(self) -> None:
        """Raise UserError where there is no token, or one that may not write."""
        from huggingface_hub.errors import LocalTokenNotFoundError

        advice = _TOKEN.format(self._api.endpoint)
        try:
            with self._explained("be written", passing=LocalTokenNotFoundError):
                token = self._api.whoami().get("auth", {}).get("accessToken", {})
        except LocalTokenNotFoundError as error:
            raise UserError(f"{self.name}: there is no token to write with. {advice}") from error
        if token.get("role") == "read":
            raise UserError(f"{self.name}: the token {token.get('displayName')!r} may only read. {advice}")

    def check_content(self, files: Files) -> str | None:
        """Return the commit of the repository, None where there is none yet.

        Raises UserError where it holds a file that `files` would not replace, or is of another base model.
        """
        from huggingface_hub.errors import RepositoryNotFoundError

        try:
            with self._explained("be read", passing=RepositoryNotFoundError):
                info = self._api.model_info(self.name)
        except RepositoryNotFoundError:
            return None
        there = {file.rfilename for file in info.siblings or []}
        if others := sorted(there - files.keys() - {GITATTRIBUTES}):
            more = f" and {len(others) - 5} more" if others[5:] else ""
            raise UserError(
                f"{self.url} holds files that this would not replace: {', '.join(others[:5])}{more}. Publish "
                "into another repository, or delete them there first."
            )
        with tempfile.TemporaryDirectory() as folder:
            for name in (KEPT[0], README):
                if name in there & files.keys():
                    with self._explained("be read"):
                        path = self._api.hf_hub_download(self.name, name, revision=info.sha, local_dir=folder)
                    theirs, ours = _base(name, Path(path)), _base(name, files[name])
                    if theirs != ours:
                        raise UserError(
                            f"{self.url} is of another base model: its {name} names {theirs or 'none'}, this "
                            f"one {ours or 'none'}. Publish into another repository."
                        )
        return info.sha

    def create(self, private: bool) -> None:
        """Make the repository, empty."""
        with self._explained("be made"):
            self._api.create_repo(self.name, private=private or None, exist_ok=True)

    def push(self, files: Files, parent: str | None, message: str) -> str:
        """Put the files into the repository in one commit on `parent`; return the commit."""
        from huggingface_hub import CommitOperationAdd

        operations = [
            CommitOperationAdd(name, content if isinstance(content, bytes) else str(content))
            for name, content in files.items()
        ]
        with self._explained("be written", " No file was changed there."):
            return str(
                self._api.create_commit(
                    self.name, operations, commit_message=message, parent_commit=parent
                ).oid
            )

    @contextmanager
    def _explained(
        self, what: str, unchanged: str = "", passing: type[Exception] | tuple[()] = ()
    ) -> Iterator[None]:
        """Turn the client's errors into UserErrors; `passing`, which a caller understands, stays as it is.

        `unchanged` is said where the hub has refused: where its answer was lost nobody knows.
        """
        import httpx
        from huggingface_hub import errors

        try:
            yield
        except passing:
            raise
        except errors.RepositoryNotFoundError:
            raise UserError(f"{self.url} cannot {what}: {self._refused(403)}{unchanged}") from None
        except errors.HfHubHTTPError as error:
            status = error.response.status_code
            known = unchanged if status < 500 else ""
            raise UserError(f"{self.url} cannot {what}: {self._refused(status, error)}{known}") from error
        except (errors.OfflineModeIsEnabled, httpx.TransportError) as error:
            raise UserError(
                f"{self._api.endpoint}: the hub cannot be reached ({_line(error)}), so {self.name} cannot "
                f"{what}. Check the network, HF_ENDPOINT and HF_HUB_OFFLINE, then run again."
            ) from error
        except (OSError, RuntimeError, ValueError) as error:
            raise UserError(f"{self.url} cannot {what}: {_line(error)}{unchanged}") from error

    def _refused(self, status: int, error: Exception | None = None) -> str:
        if status == 401:
            return f"the hub does not know the token. {_TOKEN.format(self._api.endpoint)}"
        if status == 403:
            return f"the token may not write there. {_TOKEN.format(self._api.endpoint)}"
        if status == 412:
            return "somebody else has changed it meanwhile. Look at it, then run again."
        return _line(error)


def _base(name: str, file: Path | bytes) -> Any:
    """Return the base model that an adapter_config.json or a card names."""
    from huggingface_hub import ModelCard
    from yaml import YAMLError

    if isinstance(file, bytes):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(file)
            return _base(name, path)
    if name == README:
        try:
            return ModelCard(read_text(file), ignore_metadata_errors=True).data.get("base_model")
        except (ValueError, YAMLError):
            return "what cannot be read"
    config = read_json(file)
    return config.get("base_model_name_or_path") if isinstance(config, dict) else None


def _line(error: Exception | None) -> str:
    """Return what an error says, in one line; of the hub's answers its own words, of others the cause too."""
    if said := getattr(error, "server_message", None):
        return f"{str(said).strip()}."
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    cause = error.__cause__ if error else None
    of_cause = [f"({_line(cause)})"] if isinstance(cause, Exception) else []
    return " ".join([*lines[:2], *of_cause]) or type(error).__name__
