"""Reading plots/gain.csv, for the stages after evaluate, which writes it."""

import csv
import io

from sft.core.errors import UserError
from sft.core.files import read_text
from sft.statistics.gains import Gain
from sft.statistics.significance import Outcome
from sft.tasks import metric_names
from stages import paths


def read_gains() -> list[Gain]:
    """Return the rows of plots/gain.csv; raise MissingFile where it is not there, UserError if damaged."""
    return [gain_of(row) for row in read_csv(paths.GAIN)]


def gain_of(row: dict[str, str]) -> Gain:
    """Read one row of plots/gain.csv; raise UserError where it is damaged."""
    try:
        low, high, p = (float(row[name]) if row[name] else None for name in ("low", "high", "p"))
        before, after, difference = (float(row[name]) for name in ("before", "after", "difference"))
        task, metric, outcome, note = row["task"], row["metric"], Outcome(row["verdict"]), row["note"]
    except KeyError as error:
        raise _damaged(f"it has no column {error}") from error
    except (ValueError, TypeError) as error:  # TypeError: a line that is cut off
        raise _damaged(str(error)) from error
    if metric not in metric_names.METRICS:
        raise _damaged(f"{metric!r} is no metric")
    return Gain(task, metric, before, after, difference, low, high, p, outcome, note)


def _damaged(what: str) -> UserError:
    return UserError(
        f"{paths.GAIN}: damaged, or older than this code: {what}. Run the stage that writes it: "
        "dvc repro evaluate"
    )


def read_csv(path: str) -> list[dict[str, str]]:
    """Read a CSV file; raises MissingFile where it is not there."""
    return list(csv.DictReader(io.StringIO(read_text(path))))
