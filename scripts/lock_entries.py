"""The entries of dvc.lock: what each stage has made of which inputs.

An entry is what dvc.lock has of one stage: cmd, deps, params and outs with their hashes. DVC's run cache has
entries of the same form.
"""

from pathlib import Path
from typing import Any

from sft.core import params
from sft.core.errors import UserError
from stages.cli import LOCK

# What stages/check.py writes: the same text, whatever params and code it has checked.
CONSTANT = ("data/params-checked.txt",)
Entry = dict[str, Any]
Outputs = dict[str, Entry]  # outs of entries, by path


def locked_entries() -> dict[str, Entry]:
    """Return the entries of dvc.lock, by stage; none where there is no such file."""
    return entries_of(Path(LOCK).read_text(encoding="utf-8") if Path(LOCK).exists() else None, LOCK)


def entries_of(text: str | None, path: str) -> dict[str, Entry]:
    """Return the entries of a dvc.lock's text; `path` is for errors. Raises UserError where it is damaged."""
    return plain(params.parse(text, path).get("stages") or {}) if text else {}


def is_lock(text: str) -> bool:
    """Tell whether DVC can read a dvc.lock; one that is half-written may be YAML all the same."""
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from voluptuous import Invalid

    try:
        COMPILED_LOCKFILE_SCHEMA(params.parse(text, LOCK))
    except (UserError, Invalid):
        return False
    return True


def same_inputs(one: Entry, other: Entry) -> bool:
    """Tell whether two entries are of the same inputs, and of the same outputs' paths."""
    return all(_inputs(one)[part] == _inputs(other)[part] for part in ("cmd", "deps", "params", "outs"))


def outputs(entry: Entry) -> Outputs:
    """Return the outputs of an entry, by path."""
    return {out["path"]: out for out in entry.get("outs", [])}


def constant_outputs(entry: Entry | None) -> Outputs:
    """Return the outputs that a run makes again as they are, though its inputs are other ones."""
    return {path: out for path, out in outputs(entry or {}).items() if path in CONSTANT}


def plain(value: Any) -> Any:
    """Return a value of DVC's as plain dicts and lists, to be compared and written."""
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _inputs(entry: Entry) -> dict[str, Any]:
    return {
        "cmd": entry.get("cmd"),
        "deps": {dep["path"]: dep.get("md5") for dep in entry.get("deps", [])},
        "params": entry.get("params") or {},
        "outs": {out["path"] for out in entry.get("outs", [])},
    }
