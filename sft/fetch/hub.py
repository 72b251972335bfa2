"""Data sets and models of the Hugging Face Hub, at one commit, in huggingface_hub's own cache."""

import hashlib
import os
import re
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from fnmatch import fnmatch
from glob import escape
from itertools import islice
from pathlib import Path

from sft.core.errors import UserError
from sft.core.files import sha256_once
from sft.core.masking import masked
from sft.fetch.compat import keep_partial_downloads
from sft.fetch.data_files import EXTENSIONS, KINDS, is_data_file, kind_of

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TRAIN = re.compile(r"(^|[^a-z])train([^a-z]|$)")
# Written beside the data by the datasets library; their extension is that of data.
_DESCRIPTIONS = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}
# Copies of a model's weights that transformers does not load.
_OTHER_FORMATS = ["*.gguf", "original/*", "onnx/*", "*.onnx", "openvino/*", "*.h5", "*.msgpack", "*.ot"]
# Weights and code that could do anything once they are loaded: never fetched.
_PICKLED = ["*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle", "*.joblib"]
_CODE = ["*.py"]
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
    """Fetch a model; return its folder and commit. Weights in other formats than safetensors are left out.

    A full commit hash that is cached whole needs no network.
    Raises UserError where the repository, the revision, such weights in it or the hub cannot be found.
    """
    commit, names = _listing(repo, "model", revision)
    chosen = _model_names(names)
    if not any(name.endswith(".safetensors") for name in chosen):
        pickled = [name for name in names if _matches(name, _PICKLED)]
        raise UserError(
            f"{_uri(repo, 'model')}: holds no weights in safetensors format. "
            + (
                f"{pickled[0]} is a pickle, which could run any code as it is loaded. Name a revision with "
                "safetensors (the hub's converter opens a pull request: @refs/pr/N), or another repository."
                if pickled
                else "Name a repository that has them."
            )
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
    left_out = [*_OTHER_FORMATS, *_PICKLED, *_CODE]
    if _SAFETENSORS & set(names):
        left_out.append("consolidated*.safetensors")
    return [name for name in names if not _matches(name, left_out)]


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


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
    """Fetch these files of a commit, if they are not in the cache whole; what has come of one is kept."""
    folder = _snapshot(repo, kind, commit, names)
    wrong = damaged(folder, names)
    for path in wrong:
        print(f"{_uri(repo, kind)}: {path.name} is damaged in the cache; it is fetched anew ...", flush=True)
        path.resolve().unlink()
        path.unlink()
    if wrong and (again := damaged(_snapshot(repo, kind, commit, names), names)):
        raise UserError(
            f"{_uri(repo, kind)}: {again[0].name} does not have the checksum that the hub names it by, "
            "twice. Do not trust it: check HF_ENDPOINT, the disk, and what stands between you and the hub."
        )
    return folder


def damaged(folder: Path, names: Iterable[str]) -> list[Path]:
    """Return the files of a snapshot whose content is not what the hub's cache names them by.

    That is SHA-256 for large files and Git's SHA-1 for small ones; of what is named otherwise nothing is
    known. Hashed once a run, several files at a time: some 1.4 s a GB on one core.
    """
    paths = [folder / name for name in names]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return [path for path, right in zip(paths, pool.map(_right, paths), strict=True) if not right]


def _right(path: Path) -> bool:
    name = path.resolve().name
    if _SHA256.fullmatch(name):
        return sha256_once(path) == name
    if _COMMIT.fullmatch(name):
        content = path.read_bytes()
        blob = b"blob %d\0" % len(content) + content
        return hashlib.sha1(blob, usedforsecurity=False).hexdigest() == name
    return True


def _snapshot(repo: str, kind: str, commit: str, names: list[str]) -> Path:
    import httpx
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    keep_partial_downloads()
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
                reason = masked(str(error))
                print(f"{_uri(repo, kind)}: the transfer broke off ({reason}); going on ...", flush=True)
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
            "then run again; what came is kept."
        ) from error


def _uri(repo: str, kind: str) -> str:
    return f"hf://datasets/{repo}" if kind == "dataset" else f"hf://{repo}"


def _some(names: Iterable[str]) -> str:
    first = list(islice(names, 21))
    return ", ".join(first[:20]) + (", ..." if len(first) > 20 else "") or "none"
