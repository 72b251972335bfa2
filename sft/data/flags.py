"""What says on or off, in whatever way a source writes it."""

from typing import Any

_WORDS = {"false": 0, "no": 0, "off": 0, "true": 1, "yes": 1, "on": 1}


def flag(value: Any) -> int | None:
    """Return 1 for what says on, 0 for what says off, and None for anything else."""
    if isinstance(value, str):
        word = value.strip().lower()
        if word in _WORDS:
            return _WORDS[word]
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return int(number) if number in (0, 1) else None
