"""Put the outputs of this commit into the workspace without running a stage that has run before.

Run as `python -m scripts.restore` (`make restore`). Outputs come from the default remote, where there is
one, and from this machine's cache. Where dvc.lock names outputs that neither has, such as those of another
machine, the run cache may have what this machine made of the same inputs: `dvc repro` would not look there,
since dvc.lock fits the inputs. dvc.lock names these outputs then, and what later stages made of them.
Nothing runs here, and what cannot be had stays as it is.
"""

from dataclasses import dataclass, field

from scripts import command, remote, remote_errors
from scripts.last_run import with_seconds
from scripts.lock_entries import Entry, Outputs, constant_outputs, locked_entries, outputs, same_inputs
from scripts.stage_entries import Stages, earlier_run, not_touched, workspace_locked
from sft.core.errors import UserError
from stages.cli import LOCK


@dataclass
class Plan:
    """Where each stage's outputs come from: the entry that names them, or `runs` where none can be had."""

    locked: dict[str, Entry] = field(default_factory=dict)
    run_cache: dict[str, Entry] = field(default_factory=dict)
    runs: list[str] = field(default_factory=list)


def plan(stages: Stages, lock: dict[str, Entry]) -> Plan:
    """Find the outputs of each stage, from first to last, as dvc.lock or else the run cache has them."""
    found, made = Plan(), Outputs()
    for name in stages.names:
        inputs = stages.inputs(name, made)
        locked = lock.get(name)
        if locked and not (inputs and same_inputs(locked, inputs)):
            locked = None
        if locked and not stages.absent(name, locked):
            found.locked[name] = locked
        elif inputs and (earlier := earlier_run(stages, name, inputs)):
            found.run_cache[name] = locked = earlier
        else:
            found.runs.append(name)
        # What dvc.lock names and cannot be had is still what a run is to make: later stages may have read it.
        made |= outputs(locked) if locked else constant_outputs(lock.get(name))
    return found


def restore() -> list[str]:
    """Fetch and check out what can be had; return what to tell the user.

    Raises UserError where there is no pipeline to restore, and where a stage or DVC runs here.
    """
    said = []
    with workspace_locked() as repo:
        stages = Stages(repo)
        if stages.remote:
            try:
                remote.check_there()
                with remote_errors.unlogged():
                    stages.fetch()
            except UserError as error:
                said.append(f"Not all could be fetched from the remote `{stages.remote}`: {error}")
        else:
            said.append("No remote is set: only this machine's cache can have the outputs.")
        stages.check_out_added()
        found = plan(stages, locked_entries())
        refused = []
        for name, entry in (found.locked | found.run_cache).items():
            refused += stages.check_out(name, entry)
        if found.run_cache:
            stages.write(found.run_cache)
    if found.locked:
        said.append(f"As {LOCK} has them: the outputs of {', '.join(found.locked)}.")
    if found.run_cache:
        said.append(
            f"From an earlier run of the same inputs: the outputs of {', '.join(found.run_cache)}. {LOCK} "
            "and the results in Git are of that run now: `git diff --stat` names those that differ."
        )
    if refused:
        said.append(not_touched(refused))
    if found.runs:
        said.append(f"Not to be had, so `dvc repro` would run: {with_seconds(found.runs)}.")
    return said


if __name__ == "__main__":
    command.run("restore", __doc__, restore)
