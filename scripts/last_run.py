"""What the stages recorded of their last run: provenance/*.json."""

import json
from pathlib import Path
from typing import Any

from scripts.revisions import Side
from sft.core.errors import UserError


def record(stage: str) -> dict[str, Any]:
    """Return what a stage recorded of its run; nothing where it recorded none, or the file is damaged."""
    try:
        return _parsed(Path("provenance", f"{stage}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def last_record(stage: str) -> dict[str, Any]:
    """Return a stage's record, or HEAD's: DVC removes it before a run, which may be stopped."""
    try:
        return record(stage) or _parsed(Side("HEAD").read(f"provenance/{stage}.json") or "{}")
    except (UserError, ValueError):
        return {}


def with_seconds(stages: list[str]) -> str:
    """Name stages, each with the time that it took last: `train (3 min 20 s), plot`."""
    return ", ".join(f"{stage} ({duration(took)})" if (took := seconds(stage)) else stage for stage in stages)


def seconds(stage: str) -> float:
    """Return how many seconds a stage took last, all its phases together; 0 where that is not recorded."""
    phases = last_record(stage).get("seconds")
    phases = phases.values() if isinstance(phases, dict) else [phases]
    return sum(phase for phase in phases if isinstance(phase, int | float))


def _parsed(text: str) -> dict[str, Any]:
    found = json.loads(text)
    return found if isinstance(found, dict) else {}


def duration(of: float) -> str:
    """Return seconds as people say them: `7 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(of)
    if whole < 60:
        return f"{whole} s" if whole else "under 1 s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
