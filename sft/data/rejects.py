"""The rejects file: every row that could not be understood, with its reason."""

import json
from collections import Counter
from pathlib import Path

from sft.core.errors import UserError
from sft.core.files import write_text
from sft.data.source_rows import Reject


def write(path: Path | str, rejects: list[Reject]) -> None:
    """Write one JSON object a line: source, row, reason, detail, and the start of the text."""
    lines = [
        json.dumps(
            {"source": r.source, "row": r.row, "reason": r.reason, "detail": r.detail, "text": r.text},
            ensure_ascii=False,
        )
        for r in rejects
    ]
    write_text(path, "".join(line + "\n" for line in lines))


def check(uri: str, rejects: list[Reject], rows: int, limit: float, path: Path | str) -> None:
    """Raise UserError, showing the first rejects, where a source has more than the share `limit` of them.

    `rows` is the number of rows that were understood.
    """
    lost = count(rejects)
    total = rows + lost
    if lost <= limit * total:
        return
    first = "\n".join(
        f"  {r.detail}" if not r.text else f"  row {r.row}: {r.why()}: {r.text[:120]!r}" for r in rejects[:5]
    )
    raise UserError(
        f"{uri}: {lost:,} of {total:,} rows cannot be understood, "
        f"more than data.max_rejects ({limit:.2%}) allows. The first:\n{first}\n"
        f"All are in {path}. Mend the source, or raise data.max_rejects to go on without them."
    )


def count(rejects: list[Reject]) -> int:
    """Count the rows that are lost."""
    return sum(reject.rows for reject in rejects)


def by_reason(rejects: list[Reject]) -> dict[str, int]:
    """Count the rows that are lost by reason, most frequent first."""
    counts: Counter[str] = Counter()
    for reject in rejects:
        counts[str(reject.reason)] += reject.rows
    return dict(counts.most_common())
