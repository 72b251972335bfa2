"""Merge dvc.lock and the results in Git of two branches that have both run the pipeline.

Run as `python -m scripts.merge_lock` (`make merge-lock`), while Git waits for a conflict of a merge, rebase
or cherry-pick to be resolved, or right after a merge. What people write (params.yaml, dvc.yaml, code) is to
be resolved before: it decides which results belong to it. Of each stage, from first to last, it takes the
entry of the side that ran it with the merged params, code and data, else one of this machine's run cache.
Where there is none the stage is left to run, and named. Nothing runs here, but the params are checked in this
process where nobody has run the stage check with them.

.gitattributes declares these files `-merge`: where both sides changed one, Git keeps ours and says that it
is in conflict, instead of merging line by line what belongs together. No merge driver is needed for it, so
it holds in every clone. Where the attribute was not there yet, conflict markers in these files are
replaced.
"""

import hashlib
import subprocess
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from scripts import command
from scripts.checked_params import checked, is_check
from scripts.last_run import with_seconds
from scripts.lock_entries import Entry, Outputs, constant_outputs, entries_of, is_lock, outputs, same_inputs
from scripts.merge_state import Merge, last_merge, merging
from scripts.revisions import Side, git, succeeds
from scripts.stage_entries import Stages, earlier_run, not_touched, workspace_locked
from sft.core.errors import UserError
from sft.core.files import replacing
from stages.cli import LOCK

RUN_CACHE = "an earlier run here"


@dataclass
class Taken:
    """The entry of each stage, whose it is, and the stages that nobody has run with what is merged.

    `entries` has more stages than `whose`: those that were checked here.
    """

    entries: dict[str, Entry] = field(default_factory=dict)
    whose: dict[str, str] = field(default_factory=dict)
    runs: list[str] = field(default_factory=list)


def merge_lock() -> list[str]:
    """Write dvc.lock and the results in Git; return what to tell the user.

    Raises UserError where no merge is going on, where the user's own files are still in conflict, where a
    merged param is at fault, and where a stage or DVC runs here.
    """
    merge = merging() or last_merge()
    if merge is None:
        raise UserError("There is no merge, rebase or cherry-pick here, and HEAD is no merge.")
    with workspace_locked() as repo:
        locks = {commit: lock for commit in merge.sides if (lock := lock_of(commit))}
        entries = [entry for lock in locks.values() for entry in lock.values()]
        written = {LOCK} | {path for entry in entries for path in outputs(entry)}
        refuse_conflicts(written)
        if not merge.then:
            refuse_changes(written)
        keep_ours(locks, written)
        stages = Stages(repo)  # not before: DVC cannot read a dvc.lock with conflict markers
        taken = choose(stages, locks)
        check_params(stages, taken)
        results = {name: stages.in_git(name) for name in stages.names}
        refused: list[str] = []
        for name, entry in taken.entries.items():
            take_files(merge, entry, results[name])
            refused += stages.check_out(name, entry)
        stages.write(taken.entries)
        absent = [path for name, entry in taken.entries.items() for path in stages.absent(name, entry)]
        git("add", "--", *(path for path in chain([LOCK], *results.values()) if Path(path).exists()))
    return said(taken, absent, refused, merge)


def choose(stages: Stages, locks: dict[str, dict[str, Entry]]) -> Taken:
    """Find for each stage, from first to last, a run of the inputs that it has here."""
    taken, made = Taken(), Outputs()
    for name in stages.names:
        inputs = stages.inputs(name, made)
        if inputs is None:  # a stage before it has to run
            taken.runs.append(name)
            continue
        sides = [
            (side, lock[name])
            for side, lock in locks.items()
            if name in lock and same_inputs(lock[name], inputs)
        ]
        # Of two with the same inputs, one whose outputs are here.
        sides.sort(key=lambda side: bool(stages.absent(name, side[1])))
        if not sides and (earlier := earlier_run(stages, name, inputs)):
            sides = [(RUN_CACHE, earlier)]
        if not sides:
            taken.runs.append(name)
            made |= constant_outputs(next((lock[name] for lock in locks.values() if name in lock), None))
            continue
        commit, taken.entries[name] = sides[0]
        taken.whose[name] = commit if commit == RUN_CACHE else named(commit, locks)
        made |= outputs(taken.entries[name])
    return taken


def check_params(stages: Stages, taken: Taken) -> None:
    """Do what the stage check does, where it is left to run.

    Raises ParamError where a merged param is at fault: the params decide which results belong to
    them, so it is to be mended before any are taken.
    """
    for name in [name for name in taken.runs if is_check(stages, name)]:
        if entry := checked(stages, name):
            taken.entries[name] = entry
            taken.runs.remove(name)


def named(commit: str, locks: dict[str, dict[str, Entry]]) -> str:
    """Name a side: the first one is the current branch's."""
    return f"{'this branch' if commit == next(iter(locks)) else 'the other side'} ({commit[:9]})"


def lock_of(commit: str) -> dict[str, Entry]:
    """Return the entries of a commit's dvc.lock; none where it has no such file, or one with markers."""
    text = Side(commit).read(LOCK)
    return entries_of(text, f"{LOCK} of {commit[:9]}") if text and is_lock(text) else {}


def refuse_conflicts(written: set[str]) -> None:
    """Raise UserError where a file is in conflict that no stage has written."""
    unmerged = git("diff", "--name-only", "--diff-filter=U", "-z").split("\0")
    own = sorted({path for path in unmerged if path and path not in written})
    if own:
        raise UserError(
            f"{', '.join(own)}: in conflict, and only you can tell which is right. Resolve and `git add` "
            "that first: params and code decide which results belong to them. Then: make merge-lock"
        )


def refuse_changes(written: set[str]) -> None:
    """Raise UserError where results that are not committed would be lost."""
    changed = git("diff", "--name-only", "-z", "HEAD").split("\0")
    if results := sorted(written.intersection(changed)):
        raise UserError(
            f"{', '.join(results)}: changed since the merge. Commit that, or git restore it, first."
        )


def keep_ours(locks: dict[str, dict[str, Entry]], written: set[str]) -> None:
    """Begin with the current branch's files, so that no conflict marker is left where nothing fits."""
    for path in sorted(written):
        side = next((one for one in locks if succeeds("cat-file", "-e", f"{one}:{path}")), None)
        if side:
            write_file(path, content_of(side, path))


def take_files(merge: Merge, entry: Entry, in_git: list[str]) -> None:
    """Put an entry's results that are in Git into the workspace, from the side that has them."""
    for path, out in outputs(entry).items():
        if path in in_git:
            for side in merge.sides:
                content = content_of(side, path)
                if content is not None and hashlib.md5(content).hexdigest() == out["md5"]:
                    write_file(path, content)
                    break


def content_of(commit: str, path: str) -> bytes | None:
    """Return a file as a commit has it."""
    found = subprocess.run(["git", "cat-file", "blob", f"{commit}:{path}"], capture_output=True)
    return None if found.returncode else found.stdout


def write_file(path: str, content: bytes | None) -> None:
    """Write a file of Git's."""
    if content is not None:
        with replacing(path) as temporary:
            temporary.write_bytes(content)


def said(taken: Taken, absent: list[str], refused: list[str], merge: Merge) -> list[str]:
    """Say whose results each stage has now, what has to run, and how to go on."""
    lines = []
    for whose in dict.fromkeys(taken.whose.values()):
        names = [name for name, of in taken.whose.items() if of == whose]
        lines.append(f"Of {whose}: the results of {', '.join(names)}.")
    if checked_here := [name for name in taken.entries if name not in taken.whose]:
        lines.append(f"Done here: {', '.join(checked_here)}. The merged params are in order.")
    if absent:
        lines.append(
            f"In no cache here: {', '.join(absent)}. `make restore` fetches them, where a remote has them."
        )
    if refused:
        lines.append(not_touched(refused))
    if taken.runs:
        lines.append(
            f"Neither side has run with what is merged: {with_seconds(taken.runs)}. `dvc repro` runs that, "
            "now or after the merge; until then their results in Git are this branch's."
        )
    if merge.then:
        lines.append(f"{LOCK} and the results in Git are resolved and added. Go on with: {merge.then}")
    elif git("diff", "--cached", "--name-only").strip():
        lines.append(f"{LOCK} and the results in Git are added: look at them, and commit.")
    return lines


if __name__ == "__main__":
    command.run("merge_lock", __doc__, merge_lock)
