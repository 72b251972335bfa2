"""Data sets and models of the Hugging Face Hub, at one commit, in huggingface_hub's own cache."""

import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from glob import escape
from itertools import islice
from pathlib import Path

from sft.core.errors import UserError
from sft.fetch.data_files import EXTENSIONS, KINDS, is_data_file, kind_of

_COMMIT = re.compile(r"[0-9a-f]{40}")
_TRAIN = re.compile(r"(^|[^a-z])train([^a-z]|$)")
# Written beside the data by the datasets library; their extension is that of data.
_DESCRIPTIONS = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}
# Copies of a model's weights that transformers does not load.
_OTHER_FORMATS = ["*.gguf", "original/*", "onnx/*", "*.onnx", "openvino/*", "*.h5", "*.msgpack", "*.ot"]
# One of these in the top folder, and transformers looks for no other weights.
_SAFETENSORS = {"model.safetensors", "model.safetensors.index.json"}
_ATTEMPTS = 3


def dataset_files(
    repo: str, revision: str | None, pattern: str | None = None
) -> tuple[list[tuple[Path, str]], str]:
    """Fetch a data set's data files; return them, each with its name there, by name, and their commit.

    Without `pattern` (a glob over the paths in the repository) these are the files of the train split, if
    any are named so, else all. A full commit hash that is cached whole needs no network.
    Raises UserError where the repository, the revision, such files or the hub cannot be found.
    """
    commit, names = _listing(repo, "dataset", revision)
    chosen = _data_names(names, pattern, _uri(repo, "dataset"))
    folder = _download(repo, "dataset", commit, chosen)
    return [(folder / name, name) for name in chosen], commit


def model_dir(repo: str, revision: str | None) -> tuple[Path, str]:
    """Fetch a model; return its folder and commit. Copies of the weights in other formats are left out.

    A full commit hash that is cached whole needs no network.
    Raises UserError where the repository, the revision, weights in it or the hub cannot be found.
    """
    commit, names = _listing(repo, "model", revision)
    chosen = _model_names(names)
    if not any(name.endswith((".safetensors", ".bin")) for name in chosen):
        raise UserError(
            f"{_uri(repo, 'model')}: holds no weights in safetensors or PyTorch format. "
            "Name a repository that has them."
        )
    return _download(repo, "model", commit, chosen), commit


def _data_names(names: list[str], pattern: str | None, what: str) -> list[str]:
    if pattern:
        chosen = [name for name in names if fnmatch(name, pattern)]
        if not chosen:
            raise UserError(f"{what}: no file matches #{pattern}. The files are: {_some(names)}.")
        if other := [name for name in chosen if not is_data_file(name)]:
            raise UserError(
                f"{what}: #{pattern} matches {other[0]}, which is no data file. "
                f"Understood: {_some(EXTENSIONS)}."
            )
        return chosen
    data = [name for name in names if is_data_file(name) and name.split("/")[-1] not in _DESCRIPTIONS]
    chosen = [name for name in data if _TRAIN.search(name.lower())] or data
    if not chosen:
        raise UserError(
            f"{what}: holds no data files ({_some(EXTENSIONS)}). The files are: {_some(names)}. "
            "The parquet copy that the hub makes may serve: @refs/convert/parquet"
        )
    by_kind = {kind: name for name in reversed(chosen) if (kind := kind_of(name))}  # the first of each
    if len(by_kind) > 1:
        kinds = [kind for kind in KINDS if kind in by_kind]
        raise UserError(
            f"{what}: holds {' and '.join(kinds)} files, perhaps of the same rows: {_some(chosen)}. "
            f"Say which to read with a glob, such as #*{Path(by_kind[kinds[0]]).suffix}"
        )
    return chosen


def _model_names(names: list[str]) -> list[str]:
    left_out = _OTHER_FORMATS
    if _SAFETENSORS & set(names):
        left_out = [*left_out, "*.bin", "*.pt", "*.pth", "consolidated*.safetensors"]
    return [name for name in names if not any(fnmatch(name, pattern) for pattern in left_out)]


def _listing(repo: str, kind: str, revision: str | None) -> tuple[str, list[str]]:
    """Resolve a revision; return the commit and its files' names, sorted."""
    from huggingface_hub import HfApi, get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    with _explained(repo, kind, revision):
        if revision and _COMMIT.fullmatch(revision):
            try:
                tree = get_cached_repo_tree(repo, repo_type=kind, revision=revision)
                return revision, sorted(file.path for file in tree)
            except CachedRepoTreeNotFoundError:
                pass
        ask = HfApi().dataset_info if kind == "dataset" else HfApi().model_info
        info = ask(repo, revision=revision)
    if info.sha is None:
        raise UserError(f"{_uri(repo, kind)}: the hub's answer names no commit. Check HF_ENDPOINT.")
    if revision is None:
        print(
            f"{_uri(repo, kind)} is not pinned: it is now at {info.sha}. "
            f"To get the same again, write {_uri(repo, kind)}@{info.sha}",
            flush=True,
        )
    return info.sha, sorted(file.rfilename for file in info.siblings or [])


def _download(repo: str, kind: str, commit: str, names: list[str]) -> Path:
    """Fetch these files of a commit, if they are not in the cache; files that came whole are kept."""
    import httpx
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    patterns = [escape(name) for name in names]
    with _explained(repo, kind, commit):
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return Path(snapshot_download(repo, repo_type=kind, revision=commit, allow_patterns=patterns))
            except (httpx.TransportError, HfHubHTTPError, ConnectionError, RuntimeError) as error:
                # The library resumes a transfer that ends early, but not one whose connection is reset.
                refused = isinstance(error, HfHubHTTPError) and error.response.status_code < 500
                if attempt == _ATTEMPTS or refused or isinstance(error, OfflineModeIsEnabled):
                    raise
                print(f"{_uri(repo, kind)}: the transfer broke off ({error}); trying again ...", flush=True)
                time.sleep(attempt)
    raise AssertionError("unreachable: the last attempt returns or raises")


@contextmanager
def _explained(repo: str, kind: str, revision: str | None) -> Iterator[None]:
    """Turn the library's errors into UserErrors that say what to do."""
    import httpx
    from huggingface_hub import errors

    what = _uri(repo, kind)
    try:
        yield
    except errors.GatedRepoError as error:
        raise UserError(
            f"{what}: access is restricted. Accept the terms on its page, then set HF_TOKEN to a token "
            "of yours."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(
            f"{what}: there is no such {kind}, or it is private. Check the name; if it is private, "
            "set HF_TOKEN to a token that may read it."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise UserError(
            f"{what}: there is no revision {revision!r}. Check the commit, tag or branch on its page."
        ) from error
    except (errors.HFValidationError, errors.DisabledRepoError) as error:
        raise UserError(f"{what}: {str(error).splitlines()[0]} Check the name.") from error
    except (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError, httpx.ConnectError) as error:
        raise UserError(
            f"{what}: the hub cannot be reached, and the cache does not hold all of it. Check the network, "
            "HF_ENDPOINT and HF_HUB_OFFLINE. Without network only what was fetched before can be used, with "
            "its full commit hash as the revision."
        ) from error
    except (httpx.HTTPError, OSError, RuntimeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{what}: cannot be fetched: {reason} Check the network, HF_ENDPOINT and the free disk space, "
            "then run again; the files that came whole are kept."
        ) from error


def _uri(repo: str, kind: str) -> str:
    return f"hf://datasets/{repo}" if kind == "dataset" else f"hf://{repo}"


def _some(names: Iterable[str]) -> str:
    first = list(islice(names, 21))
    return ", ".join(first[:20]) + (", ..." if len(first) > 20 else "") or "none"
