"""What takes disk space, which command frees it, and removing it: docs/disk.md.

    python -m scripts.clean_cache                     # a table; nothing is removed
    python -m scripts.clean_cache unused converted    # remove what these names stand for in the table

What a commit of any branch or tag, a stash, an experiment or the workspace names is never removed. What is
removed is made or fetched again when it is needed, but for what trackers wrote, whose curves are in Git too.
"""

import argparse
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from scripts import cache_use, kept_work
from scripts.export_formats import EXPORT
from scripts.processes import check_none_runs
from scripts.space import SPACE
from sft.core.errors import UserError
from sft.fetch.cache import cache_dir

HERE, SHARED = "this repository", "all clones of this user"


@dataclass(frozen=True)
class Part:
    """What can be removed by its name: what it is, whose, where, and what is to be removed there.

    `again` says how it comes back.
    """

    what: str
    whose: str
    where: Path
    paths: Callable[[], Iterable[Path]]
    again: str


def parts() -> dict[str, Part]:
    """Return what can be removed, but for `unused`, by name."""
    temporary, cache = Path(".dvc/tmp"), cache_dir()
    wheels = cache / "pypi"
    return {
        "checkpoints": Part(
            "unfinished work: checkpoints, kept answers",
            HERE,
            kept_work.WORK,
            kept_work.of_unfinished,
            "a stage that was interrupted starts from its beginning",
        ),
        "temporary": Part(
            "what killed commands and ended stages left",
            HERE,
            Path(".dvc"),
            lambda: [
                *(temporary / "exps").glob("tmp*"),
                *(temporary / "exps/standalone").glob("tmp*"),
                *_inside(temporary / "scratch"),
                *cache_use.CACHE.glob("pull-*"),
                *kept_work.of_finished(),
            ],
            "not needed; but a stage whose end DVC was killed before it recorded starts from its beginning",
        ),
        "harness": Part(
            "texts and kept answers of make harness",
            HERE,
            Path("data/harness"),
            lambda: _inside(Path("data/harness")),
            "make harness answers again; its scores are in Git",
        ),
        "export": Part(
            "what make export wrote",
            HERE,
            Path(EXPORT),
            lambda: [*_inside(Path(EXPORT)), *Path().glob(f".{EXPORT}.*.partial")],
            "make export makes it again, of the adapter that is there then",
        ),
        "space": Part(
            "what make space wrote",
            HERE,
            SPACE,
            _of_space,
            "make space makes it again, of what make export wrote",
        ),
        "trackers": Part(
            "what trainings reported to trackers",
            HERE,
            temporary / "trackers",
            lambda: _inside(temporary / "trackers"),
            "gone, with what wandb sync has not sent; the curves of commits are in plots/",
        ),
        "converted": Part(
            "models converted from GGUF, files extracted from packages",
            SHARED,
            cache,
            lambda: [*_inside(cache / "models"), *wheels.glob("*/files")],
            "made from the downloads in seconds",
        ),
        "downloads": Part(
            "packages that hold models and data",
            SHARED,
            wheels,
            lambda: [*sorted(wheels.glob("[!s]*/*.whl")), *wheels.glob("sft-pypi-*")],  # a checksum has no s
            "fetched from the package index",
        ),
        "adapters": Part(
            "adapters of other revisions, for the chatbot",
            SHARED,
            cache / "adapters",
            lambda: _inside(cache / "adapters"),
            "copied from DVC's cache or a remote",
        ),
    }


def _inside(folder: Path) -> list[Path]:
    """Return what is in a folder; not the files that processes lock, which are empty."""
    return [path for path in sorted(folder.glob("*")) if path.suffix != ".lock"]


def _of_space() -> list[Path]:
    """Return the folder's content, unless it has become a repository, and what a killed command left."""
    own = (SPACE / ".git").exists()
    return [*([] if own else _inside(SPACE)), *Path().glob(f".{SPACE}.*.partial")]


def size(paths: Iterable[Path]) -> int:
    """Return the bytes that would be free without these: of a file with another link, none."""
    files = (file for path in paths for file in [path, *path.rglob("*")] if not file.is_symlink())
    return sum(file.stat().st_size for file in files if file.is_file() and file.stat().st_nlink == 1)


def table() -> list[str]:
    """Return what is there, its size, and what frees it."""
    use = cache_use.cache_use()
    objects = f"{cache_use.CACHE}"
    rows = [
        ("results of the workspace and of commits", objects, sum(use.commits.values()), ""),
        (
            "results of experiments only",
            objects,
            sum(use.experiments.values()),
            "dvc exp remove NAME, then unused",
        ),
        ("results of earlier runs, of no commit", objects, sum(use.unused.values()), "unused"),
    ]
    rows += [(part.what, f"{part.where}", size(part.paths()), name) for name, part in parts().items()]
    hub = _hub_cache()
    rows.append(
        ("models and data of the Hugging Face hub", f"{hub}", size([hub]), "hf cache ls; hf cache rm")
    )
    home = f"{Path.home()}/"
    lines = [("what", "where", "MiB", "freed by")]
    lines += [
        (what, where.replace(home, "~/"), f"{found / 2**20:,.1f}", by) for what, where, found, by in rows
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    return [
        f"{what:<{widths[0]}}  {where:<{widths[1]}}  {found:>{widths[2]}}  {by}".rstrip()
        for what, where, found, by in lines
    ]


def _hub_cache() -> Path:
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)


def clean(names: list[str]) -> list[str]:
    """Remove what these names stand for; return a line for each, of what that freed and how it comes back."""
    known = parts()
    if names:
        check_none_runs(Path.cwd(), "and nothing is removed meanwhile")
    if any(known[name].whose == SHARED for name in names if name in known):
        check_none_runs(None, "and may use the download cache, which all your clones share")
    said = []
    for name in names:
        if name == "unused":
            freed = sum(cache_use.cache_use().unused.values())
            cache_use.remove_unused()
            again = "such a run is done again where it is asked for"
        else:
            freed = size(known[name].paths())
            for path in known[name].paths():
                _remove(path)
            again = known[name].again
        said.append(f"{name}: {freed / 2**20:,.1f} MiB freed ({again})")
    return said


def _remove(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    except OSError as error:
        raise UserError(f"{error.filename or path}: cannot be removed: {error.strerror or error}.") from error


def main() -> None:
    """Print the table, or remove what the command line names."""
    choices = ["unused", *parts()]
    parser = argparse.ArgumentParser(
        prog="python -m scripts.clean_cache", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("name", nargs="*", help=f"what to remove: {', '.join(choices)}")
    names = parser.parse_args().name
    if unknown := [name for name in names if name not in choices]:
        parser.error(f"{unknown[0]}: there is {', '.join(choices)}")
    try:
        if not Path(".dvc").is_dir():
            raise UserError("there is no .dvc folder here. Run from the repository's root.")
        print("\n".join(clean(names) if names else table()))
        if not names:
            print('\nNothing was removed. To remove: make clean-cache CLEAN="unused converted"')
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
