"""What is in this data, and what will training make of it? Looked at before any training.

Run as `python -m scripts.inspect ADDRESS`, where ADDRESS is what data.base takes: a file or folder, a data
set of the hub, or data in a package. Prints layout, rows, rejects, columns, roles, turns, duplicates, overlap
with held-out items, what the chat template refuses, lengths in tokens, and some conversations with their loss
marked; writes a histogram of the lengths to data/inspect/. It is no stage of the pipeline, and reads
params.yaml for model, limits and tasks. What takes long is done with a seeded sample, whose size is printed.
"""

import argparse
import contextlib
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scripts import inspect_sections as sections
from scripts import inspect_tokens
from scripts.inspect_screen import Screen
from scripts.inspect_tokens import ShapeParams
from sft.core.errors import UserError
from sft.core.files import read_parquet
from sft.core.params import Params, Share, Text, mapping, section
from sft.core.row_schema import take_rows
from sft.core.seeded_order import order_of_copies
from sft.data import sources
from sft.data.contamination import Examples
from sft.data.profile import profile
from sft.data.sources import Loaded
from sft.tasks.task import TaskParams
from stages import paths
from stages.cli import run

SEED = "inspect"
TOKENIZED, COMPARED, SHOWN = 2_000, 20_000, 3  # rows that are encoded, compared with each other, printed
BYTES = 2_000  # of text a row on average in a sample; where rows have more there are fewer rows
SIMILAR = 0.8  # what docs/data.md advises for data.filters.near_duplicates
PICTURES = Path("data/inspect")


class LimitParams(Params):
    """`data`: the share of rejected rows at which standardize fails."""

    max_rejects: Share


class TokenizerParams(Params):
    """`model`: the reference, whose tokenizer and chat template are used."""

    reference: Text


def main(address: str, values: dict[str, Any]) -> None:
    """Print what is known of the data at `address`, cheap facts first; `values` are the params.

    Raises UserError where it cannot be read, or no row of it can be trained on.
    """
    limits = section(values, "data", LimitParams)
    reference = section(values, "model", TokenizerParams).reference
    shape = section(values, "train", ShapeParams)
    tasks = mapping(values, "tasks", TaskParams)
    screen = Screen()
    # What loading says goes to stderr: the same data give the same page.
    with contextlib.redirect_stdout(sys.stderr):
        loaded = sources.load(address)
    screen.title(address)
    show_rows(screen, loaded, limits.max_rejects)
    if not len(loaded.table):
        raise UserError(f"{address}: no row of it is understood. Mend them, or rename the columns.")

    order = order_of_copies(SEED, loaded.table["id"])
    ordered = take_rows(loaded.table.select(["id", "kind", "messages", "tools"]), order[:COMPARED])
    sample = affordable(ordered, COMPARED)
    screen.section("Duplicates", repetitions(loaded.table, sample))
    own = {name for name, task in tasks.items() if task.source == address}
    screen.section("Held out", overlap(loaded.table, own))
    show_tokens(screen, loaded, affordable(sample, TOKENIZED), reference, shape)


def show_rows(screen: Screen, loaded: Loaded, max_rejects: float) -> None:
    """Print what is known of all rows."""
    screen.section("Layout", sections.layout(loaded))
    screen.section("Rows", sections.rows(loaded, max_rejects))
    screen.section("Rejects", sections.rejected(loaded.rejects))
    screen.section("Columns", sections.columns(loaded))
    if len(loaded.table):
        counts = profile(loaded.table)
        screen.section("Roles", sections.roles(counts))
        screen.section("Turns", sections.turns(counts))


def affordable(rows: pa.Table, count: int) -> pa.Table:
    """Return the first `count` rows, or fewer if they have more than `count` times BYTES of text."""
    messages = rows["messages"].combine_chunks()
    of_message = pc.fill_null(pc.binary_length(messages.flatten().field("content")), 0).to_numpy()
    last = np.cumsum(pc.list_value_length(messages).to_numpy()) - 1
    fitting = np.searchsorted(np.cumsum(of_message)[last], count * BYTES, side="right")
    return rows.slice(0, max(1, min(count, int(fitting))))


def repetitions(table: pa.Table, sample: pa.Table) -> list[str]:
    """Count exact duplicates among all rows, near-duplicates among those of the sample."""
    from sft.mixing.near_duplicates import near_duplicates

    exact = len(table) - pc.count_distinct(table["id"]).as_py()
    _, firsts = np.unique(sample["id"].to_numpy(), return_index=True)
    messages = sample["messages"].take(pa.array(np.sort(firsts)))
    match, similarity = near_duplicates(messages, SIMILAR)
    found = np.flatnonzero(match >= 0).tolist()
    pairs = [
        (float(similarity[row]), messages[match[row]].as_py(), messages[row].as_py()) for row in found[:SHOWN]
    ]
    return sections.repetitions(exact, len(table), len(messages), len(found), SIMILAR, pairs)


def overlap(table: pa.Table, own: set[str]) -> list[str]:
    """Compare all rows with the held-out examples, but for those of tasks that are made from these rows."""
    if not Path(paths.EVALUATION).exists():
        return [f"not compared: there is no {paths.EVALUATION} yet; `dvc repro standardize` makes it"]
    examples = read_parquet(paths.EVALUATION, ["id", "task", "prompt", "references", "calls"])
    of_own = pc.is_in(examples["task"], value_set=pa.array(sorted(own), pa.string()))
    others = examples.filter(pc.invert(of_own))
    matches = Examples(others).matches(table)
    first = {
        name: table["messages"][int(mask.argmax())].as_py()
        for name, mask in (("exact", matches.exact), ("question_only", matches.question_only))
        if mask.any()
    }
    return sections.overlap(matches.counts(), len(others), len(examples) - len(others), first)


def show_tokens(screen: Screen, loaded: Loaded, rows: pa.Table, reference: str, shape: ShapeParams) -> None:
    """Print what the template refuses, the lengths and some conversations; write the lengths' picture.

    Raises UserError where the template refuses all of these rows.
    """
    from sft.modeling import loading
    from sft.plotting import lengths

    tokenizer = loading.load_tokenizer(loading.resolve(reference))
    sample = inspect_tokens.tokenized(rows, tokenizer, shape)
    refused = sections.refusals(sample, len(rows), len(loaded.table), reference, shape.max_refused)
    screen.section("Template", refused)
    if not sample.conversations:
        raise UserError(f"{reference}: of these rows none can be trained on, for the reasons above.")
    kind = loaded.table["kind"][0].as_py()
    picture = PICTURES / f"{kind}.png"
    of_what = f"{kind}: {sections.among(len(rows), len(loaded.table))}"
    lengths.histogram(picture, sample.lengths, shape.max_length, of_what)
    screen.section(
        "Tokens", [*sections.lengths(sample, shape, len(rows), len(loaded.table)), f"picture: {picture}"]
    )
    screen.section("Conversations", [screen.legend()])
    for number, one in enumerate(sample.conversations[:SHOWN], 1):
        cut = sections.cut(len(one.ids), shape)
        screen.conversation(f"{number}", inspect_tokens.pieces(one, tokenizer, shape.max_length), cut)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="What is in this data, and what will training make of it?")
    parser.add_argument("address", help="a file or folder, hf://datasets/ORG/NAME@REVISION, pypi://...")
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    run(partial(main, parser.parse_args().address))
