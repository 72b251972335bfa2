"""What `dvc repro` would do with each stage, and why: without doing it."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from scripts import code_changes
from scripts.lock_entries import Entry, Outputs, constant_outputs, outputs
from scripts.stage_entries import Stages, earlier_run

FILES_SHOWN = 4


class Does(Enum):
    """What becomes of a stage."""

    NOTHING = "up to date"
    CHECKS_OUT = "from DVC's cache"
    RUN_CACHE = "from the run cache"
    RUNS = "runs"
    MAY_RUN = "may run"


@dataclass(frozen=True)
class Forecast:
    """What becomes of a stage, and why; `restorable` where `make restore` would spare the run.

    `changed` where its inputs are not those of dvc.lock, `other_params` where its params are among them.
    """

    does: Does
    why: list[str] = field(default_factory=list)
    restorable: bool = False
    changed: bool = False
    other_params: bool = False


def forecast(stages: Stages, lock: dict[str, Entry]) -> dict[str, Forecast]:
    """Say of each stage, from first to last, what `dvc repro` would do with it."""
    found: dict[str, Forecast] = {}
    made: Outputs = {}
    new: dict[str, str] = {}  # outputs that a run would make anew, and the stage that does
    for name in stages.names:
        entry = lock.get(name)
        if any(dep in new for dep in stages.deps(name)):
            found[name] = _following(stages, name, entry, made, new)
        else:
            found[name], entry = _on_its_own(stages, name, entry, made)
        made |= outputs(entry or {})
        if found[name].does in (Does.RUNS, Does.MAY_RUN):
            new |= {out: name for out in stages.outs(name) if out not in constant_outputs(entry)}
    return found


def differences(entry: Entry, inputs: Entry) -> list[str]:
    """Say what differs between an entry's inputs and those here: params old -> new, files, the command."""
    found = [] if entry.get("cmd") == inputs.get("cmd") else ["its command in dvc.yaml"]
    for path in sorted({*(entry.get("params") or {}), *(inputs.get("params") or {})}):
        old, new = ((side.get("params") or {}).get(path, {}) for side in (entry, inputs))
        for name in sorted({*old, *new}):
            if old.get(name) != new.get(name) or (name in old) != (name in new):
                found.append(f"{name} {_value(old, name)} -> {_value(new, name)}")
    read, here = ({dep["path"]: dep.get("md5") for dep in side.get("deps", [])} for side in (entry, inputs))
    for path in sorted({*read, *here}):
        if path not in read or path not in here:
            found.append(f"{path} {'no longer a' if path in read else 'a new'} dependency in dvc.yaml")
        elif read[path] != here[path]:
            found.append(_named(path, str(read[path])))
    old_outs, new_outs = ({out["path"] for out in side.get("outs", [])} for side in (entry, inputs))
    return found + [f"{path}: in dvc.yaml's outputs, or no longer" for path in sorted(old_outs ^ new_outs)]


def _on_its_own(
    stages: Stages, name: str, entry: Entry | None, made: Outputs
) -> tuple[Forecast, Entry | None]:
    """Judge a stage whose inputs are known; return the entry that its outputs will be of, too."""
    inputs = stages.inputs(name, made)
    assert inputs  # the stages before are judged
    earlier = earlier_run(stages, name, inputs)
    why = ["it has not run"] if entry is None else differences(entry, inputs)
    if entry is None or why:
        does, made_before = (Does.RUN_CACHE, earlier) if earlier else (Does.RUNS, entry)
        return Forecast(does, why, changed=True, other_params=_other_params(entry, inputs)), made_before
    if lacking := _lacking(stages, name, entry):
        return Forecast(Does.RUNS, lacking, bool(earlier)), entry
    if damaged := stages.damaged(name, entry):
        states = [
            f"{path} {'changed by hand' if how == 'modified' else 'missing'}" for path, how in damaged.items()
        ]
        return Forecast(Does.CHECKS_OUT, states), entry
    return Forecast(Does.NOTHING), entry


def _following(
    stages: Stages, name: str, entry: Entry | None, made: Outputs, new: dict[str, str]
) -> Forecast:
    """Judge a stage that reads what other stages are going to make anew."""
    deps = stages.deps(name)
    after = f"after {_list(list(dict.fromkeys(new[dep] for dep in deps if dep in new)))}"
    if entry is None:
        return Forecast(Does.RUNS, [after, "it has not run"], changed=True)
    # As if these made the same again. Of a dep that the stage did not have, nothing but the name is known.
    same = {dep["path"]: dep for dep in entry.get("deps", []) if dep["path"] in new}
    inputs = stages.inputs(name, {dep: {"path": dep} for dep in deps} | made | same)
    assert inputs
    if own := differences(entry, inputs):
        return Forecast(Does.RUNS, [after, *own], changed=True, other_params=_other_params(entry, inputs))
    lacking = _lacking(stages, name, entry)
    return Forecast(Does.RUNS if lacking else Does.MAY_RUN, [after, *lacking])


def _lacking(stages: Stages, name: str, entry: Entry) -> list[str]:
    absent = stages.absent(name, entry)
    return [f"{_list(absent)} not in DVC's cache"] if absent else []


def _other_params(entry: Entry | None, inputs: Entry) -> bool:
    return entry is not None and (entry.get("params") or {}) != (inputs.get("params") or {})


def _value(params: dict[str, Any], name: str) -> str:
    return str(params[name]) if name in params else "(none)"


def _named(path: str, read: str) -> str:
    if not read.endswith(".dir"):
        return path
    files = code_changes.changed_files(path, read)
    return f"{path} ({_list(files)})" if files else path


def _list(names: list[str]) -> str:
    more = len(names) - FILES_SHOWN
    return ", ".join(names[:FILES_SHOWN]) + (f" and {more} more" if more > 0 else "")
