"""The stages as they are here: what each would run with, and which runs of it DVC's cache has.

The run cache (`runs/` in DVC's cache) has the entries of all runs of this machine, by their inputs. DVC
itself looks there only where the inputs differ from dvc.lock's: a stage whose inputs match but whose outputs
are not in the cache runs again, though the run cache has what an earlier run made of them.

It uses DVC's classes, which DVC does not promise to keep: tests/scripts/test_stage_entries.py says where to
look when a version moves them.
"""

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scripts import compat
from scripts.lock_entries import Entry, Outputs, is_lock, plain
from scripts.processes import check_workspace_is_free
from sft.core.errors import UserError
from stages.cli import LOCK


class Stages:
    """The stages of dvc.yaml, in the order in which they run, and DVC's cache. Made by `opened`."""

    def __init__(self, repo: Any):
        from dvc.repo.reproduce import plan_repro

        self._repo = repo
        graph = repo.index.graph
        pipeline = [stage for stage in plan_repro(graph) if stage.addressing and stage.cmd]
        self._stages = {stage.addressing: stage for stage in pipeline}
        self._makers = {out.def_path: name for name, stage in self._stages.items() for out in stage.outs}

    @property
    def names(self) -> list[str]:
        """The stages' names."""
        return list(self._stages)

    def deps(self, name: str) -> list[str]:
        """Return the paths of a stage's dependencies, params left out."""
        return [dep.def_path for dep in self._stages[name].deps]

    def outs(self, name: str) -> list[str]:
        """Return the paths of a stage's outputs."""
        return [out.def_path for out in self._stages[name].outs]

    def in_git(self, name: str) -> list[str]:
        """Return the paths of the outputs that are in Git, and not in DVC's cache."""
        return [out.def_path for out in self._stages[name].outs if not out.use_cache]

    def inputs(self, name: str, made: Outputs) -> Entry | None:
        """Return what a stage would run with: code and params that lie here, other stages' outputs of `made`.

        None where one of these is missing. Raises UserError where a dep is missing that no stage makes.
        """
        from dvc.dependency.base import DependencyDoesNotExistError
        from dvc.stage.serialize import to_single_stage_lockfile

        stage = self._stages[name]
        deps = {}
        for dep in stage.deps:
            if dep.def_path in self._makers:
                if dep.def_path not in made:
                    return None
                deps[dep.def_path] = made[dep.def_path]
                continue
            try:
                dep.save()
            except DependencyDoesNotExistError as error:
                raise UserError(
                    f"{dep}: no such file or folder, and stage {name} reads it. If it is tracked, "
                    "`git status` or `dvc pull` says how to get it back."
                ) from error
        entry = plain(to_single_stage_lockfile(stage))
        entry["deps"] = [{**dep, **deps.get(dep["path"], {})} for dep in entry.get("deps", [])]
        entry["outs"] = [{"path": out["path"]} for out in entry.get("outs", [])]
        return entry

    def run_cache(self, inputs: Entry) -> list[Entry]:
        """Return what the runs of this machine have made of these inputs, the newest first."""
        return [plain(entry) for entry in compat.run_cache_entries(self._repo, inputs)]

    def absent(self, name: str, entry: Entry) -> list[str]:
        """Return an entry's outputs that DVC's cache has not; those in Git only where they differ here."""
        in_git = set(self.in_git(name))
        return [
            out.def_path
            for out in self._made(name, entry).outs
            if out.changed_cache() and (out.def_path not in in_git or out.workspace_status())
        ]

    def damaged(self, name: str, entry: Entry) -> dict[str, str]:
        """Return the outputs that lie here otherwise than in an entry: `modified` or `deleted`, by path."""
        made = self._made(name, entry).outs
        return {out.def_path: state for out in made for state in out.workspace_status().values()}

    def check_out(self, name: str, entry: Entry) -> list[str]:
        """Put an entry's outputs into the workspace, as far as DVC's cache has them.

        Returns the outputs that could not be: they lie here with a content that is in no cache and would be
        lost.
        """
        from dvc.exceptions import CheckoutError, ConfirmRemoveError

        in_git, refused = set(self.in_git(name)), []
        for out in self._made(name, entry).outs:
            if out.changed_cache() or not out.workspace_status():
                continue
            try:
                if out.def_path in in_git:  # no link to the cache: Git's files are written in place
                    with compat.copies_instead_of_links(self._repo):
                        out.checkout(force=True)
                else:
                    out.checkout()
            except (CheckoutError, ConfirmRemoveError):
                refused.append(out.def_path)
        return refused

    def check_out_added(self) -> None:
        """Put what `dvc add` tracks into the workspace where nothing lies, as far as DVC's cache has it."""
        for stage in self._repo.index.stages:
            for out in stage.outs:
                if stage.is_data_source and not out.exists and not out.changed_cache():
                    out.checkout()

    def write(self, entries: dict[str, Entry]) -> None:
        """Put entries into dvc.lock, in DVC's own form; those of other stages stay."""
        from dvc.utils.serialize import modify_yaml

        with modify_yaml(os.fspath(Path(self._repo.root_dir) / LOCK)) as document:
            document.setdefault("schema", "2.0")
            document.setdefault("stages", {}).update(copy.deepcopy(entries))

    @property
    def remote(self) -> str | None:
        """The name of DVC's default remote, None where there is none."""
        return self._repo.config["core"].get("remote")

    def fetch(self) -> None:
        """Fetch from the remote what dvc.lock and its run cache name; raise UserError where it lacks some.

        What could be had is in the cache then.
        """
        try:
            self._repo.fetch(run_cache=True)
        except Exception as error:  # each kind of remote has errors of its own
            raise UserError(str(error).strip() or type(error).__name__) from error

    def _made(self, name: str, entry: Entry) -> Any:
        made: Entry = {"outs": []} | copy.deepcopy(entry)
        return compat.stage_of_entry(self._repo, made, self._stages[name].wdir)


@contextmanager
def opened() -> Iterator[Stages]:
    """Yield the stages of the repository here, locked; raise UserError where another command has them.

    For those who only read: a stage may be running.
    """
    with _locked() as repo:
        yield Stages(repo)


@contextmanager
def workspace_locked() -> Iterator[Any]:
    """Yield DVC's view of the repository here, for `Stages`, while no stage and no other command runs.

    What is written beside a running stage would be recorded as its outputs. DVC's lock does not tell: DVC
    releases it while a stage runs. Raises UserError where something runs.
    """
    with _locked() as repo:
        check_workspace_is_free(Path(repo.root_dir).resolve())
        yield repo


@contextmanager
def _locked() -> Iterator[Any]:
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.lock import LockError
    from dvc.repo import Repo, lock_repo

    try:
        with Repo() as repo, lock_repo(repo):
            yield repo
    except LockError as error:
        raise UserError("Another DVC command is running in this repository. Wait for its end.") from error
    except NotDvcRepoError as error:
        raise UserError("This is no DVC repository. Run it in the project's folder.") from error
    except DvcException as error:
        raise UserError(f"DVC cannot read the pipeline: {error}{_way_out()}") from error


def _way_out() -> str:
    """Say what mends a dvc.lock that DVC cannot read; nothing where the fault is another."""
    text = Path(LOCK).read_text(encoding="utf-8", errors="replace") if Path(LOCK).exists() else ""
    if "<<<<<<<" in text:
        return f". {LOCK} is in conflict: make merge-lock"
    return "" if not text or is_lock(text) else f". {LOCK} is half-written: make rescue"


def earlier_run(stages: Stages, name: str, inputs: Entry) -> Entry | None:
    """Return the newest run of these inputs whose outputs are all in the cache."""
    return next((run for run in stages.run_cache(inputs) if not stages.absent(name, run)), None)


def not_touched(refused: list[str]) -> str:
    """Say which outputs `Stages.check_out` has left as they are."""
    return (
        f"Not touched, for they were changed by hand and no cache has them so: {', '.join(refused)}. "
        "Move them away and run this again, or `dvc checkout --force` to lose them."
    )
