"""The benchmark of the data: both programs read the same rows, and what they took is what they took."""

import csv
import os
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from benchmarks.data_speed import __main__ as command
from benchmarks.data_speed import contestants, rows, table
from benchmarks.data_speed.contestants import (
    BOTH,
    DATASETS,
    FILTERS,
    MIX,
    STANDARDIZE,
    Run,
    check_rows,
    members,
    of_datasets,
    of_filters,
    of_stages,
    params,
)
from benchmarks.data_speed.process_tree import ProgramError, Usage, run
from sft.core.params import section
from sft.mixing.mix import MixParams
from stages import paths
from stages.standardize import StandardizeParams

ROWS = 2_000
MIB = 2**20


def conversations(path: Path, column: str, speaker: str, text: str) -> list[tuple[tuple[str, str], ...]]:
    found = pyarrow.dataset.dataset(path, format="parquet").to_table([column])[column].to_pylist()
    return [tuple((turn[speaker], turn[text]) for turn in turns) for turns in found]


def as_messages(conversation: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    roles = {"human": "user", "gpt": "assistant"}
    return tuple((roles[who], said) for who, said in conversation)


def test_both_programs_make_the_same_of_the_same_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(contestants, "FILTERS", {"near_duplicates": FILTERS["near_duplicates"]})
    source = tmp_path / "rows.parquet"
    rows.write(source, ROWS)
    runs = of_stages(source, ROWS, 0, tmp_path / "stages")
    runs.append(of_datasets(source, ROWS, 0, tmp_path / "datasets"))

    made = list(map(as_messages, conversations(source, "conversations", "from", "value")))
    ours = conversations(tmp_path / "stages" / paths.MIX, "messages", "role", "content")
    theirs = conversations(tmp_path / "datasets/rows.parquet", "messages", "role", "content")
    assert len(ours) == len(theirs) == members(ROWS) == 1_200
    assert set(ours) <= set(made) and set(theirs) <= set(made)
    assert len(set(ours)) == len(ours), "the mix has duplicates"
    assert len(set(ours) & set(theirs)) > 500

    (filtered,) = of_filters(ROWS, tmp_path / "stages")
    removed = pq.read_table(tmp_path / "stages" / paths.REMOVED)["filter"].to_pylist()
    assert removed.count("near_duplicates") > 2
    runs.append(filtered)
    assert [line.program for line in table.lines(runs)] == [
        STANDARDIZE,
        MIX,
        BOTH,
        DATASETS,
        f"{MIX}, near_duplicates",
    ]
    for one in runs:
        assert one.usage.cpu_seconds > 0.05 and one.usage.seconds > 0.05, one
        assert 20 * MIB < one.usage.memory < 2048 * MIB, one
        assert 10 * MIB < one.usage.largest_process < 2048 * MIB, one
        assert one.results > 1_000 * members(ROWS) / 2, one

    command.write(tmp_path / "out", runs)
    with (tmp_path / "out/data.csv").open(newline="") as file:
        written = list(csv.DictReader(file))
    assert [line["program"] for line in written] == [line.program for line in table.lines(runs)]
    assert int(written[1]["results"]) == runs[1].results and int(written[0]["rows"]) == ROWS
    assert (tmp_path / "out/data.png").read_bytes().startswith(b"\x89PNG")


def test_a_mix_of_another_size_is_an_error(tmp_path):
    pq.write_table(pa.table({"n": range(members(ROWS) - 1)}), tmp_path / "mix.parquet")
    with pytest.raises(ProgramError, match=r"mix\.parquet has 1,199 rows, not 1,200 of 2,000"):
        check_rows(tmp_path / "mix.parquet", ROWS)
    (tmp_path / "mix").mkdir()
    for name, count in (("000", 700), ("001", 500)):
        pq.write_table(pa.table({"n": range(count)}), tmp_path / f"mix/{name}.parquet")
    check_rows(tmp_path / "mix", ROWS)


def test_the_rows(tmp_path):
    """The size that the figures are given for; the same file every time; one row in a hundred is a copy."""
    rows.write(tmp_path / "one.parquet", 12_000)
    rows.write(tmp_path / "two.parquet", 12_000)
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    assert 0.9e9 < (tmp_path / "one.parquet").stat().st_size / 12_000 * 1e6 < 0.94e9
    assert pq.read_metadata(tmp_path / "one.parquet").num_row_groups == 2
    made = conversations(tmp_path / "one.parquet", "conversations", "from", "value")
    assert {len(conversation) for conversation in made} == {2, 4, 6}
    assert {tuple(who for who, _ in conversation) for conversation in made} == {
        ("human", "gpt") * questions for questions in (1, 2, 3)
    }
    again = sum(conversation[-1][1].endswith(" again") for conversation in made)
    assert 30 < again < 100 and 30 < len(made) - len(set(made)) < 100


@pytest.mark.parametrize("name", FILTERS)
def test_the_stages_take_the_params(name):
    values = params(ROWS, {name: FILTERS[name]})
    mix = section(values, "data", MixParams)
    assert mix.size == 1_200 and mix.filters.active == [name]
    standardize = section(values, "data", StandardizeParams)
    assert standardize.base == [contestants.SOURCE] and standardize.extra == []
    assert section(params(ROWS, {}), "data", MixParams).filters.active == []


CHILD = """
import mmap, os, sys, time
if os.fork() == 0:
    kept = b"x" * (80 << 20)  # of the child alone
    open("written", "wb").write(kept)
    ended = time.process_time() + 0.2
    while time.process_time() < ended:
        pass
    time.sleep(1)
    os._exit(0)
os.wait()
"""


def test_what_a_process_that_the_program_starts_takes_is_counted(tmp_path):
    usage = run(["-c", CHILD], tmp_path, os.environ)
    assert 80 * MIB < usage.largest_process < 120 * MIB
    assert 80 * MIB < usage.memory < 140 * MIB
    assert usage.cpu_seconds > 0.2 and usage.seconds > 1
    assert usage.written >= 80 * MIB or usage.written == 0  # in memory, where the folder is


def test_a_program_that_fails_is_an_error_with_what_it_said(tmp_path):
    with pytest.raises(ProgramError, match=r"failed with status 3:\nno such luck"):
        run(["-c", "import sys; print('no such luck'); sys.exit(3)"], tmp_path, os.environ)
    with pytest.raises(ProgramError, match="status -9"):
        run(["-c", "import os; os.kill(os.getpid(), 9)"], tmp_path, os.environ)


def usage(seconds: float, memory: int = 0) -> Usage:
    return Usage(seconds, 2 * seconds, memory, memory // 2, int(1e9))


def test_medians_sums_and_the_comparison():
    """Both stages are the sum of one turn's; the largest memory of any turn counts."""
    runs = [
        Run(1000, turn, program, usage(seconds, gib * 2**30), int(1e9))
        for turn, (first, second, other) in enumerate(((1.0, 2.0, 9.0), (3.0, 1.0, 8.0), (2.0, 4.0, 7.0)))
        for program, seconds, gib in ((STANDARDIZE, first, 1), (MIX, second, turn), (DATASETS, other, 4))
    ]
    head, line, *found = table.markdown(table.lines(runs))
    assert len({row.count("|") for row in (head, line, *found)}) == 1
    cells = {row.split(" | ")[1]: row.strip("| ").split(" | ") for row in found}
    assert list(cells) == [STANDARDIZE, MIX, BOTH, f"`{DATASETS}`"]
    both = dict(zip(head.strip("| ").split(" | "), cells[BOTH], strict=True))
    assert both == {
        "rows": "1,000",
        "program": BOTH,
        "seconds": "4.0 (3.0 to 6.0)",
        "as fast as `datasets`": "2.00 times",
        "rows/s": "250",
        "CPU, s": "8.0",
        "memory, GiB": "2.00",
        "largest process, GiB": "1.00",
        "written, GB": "2.00",
        "results, GB": "2.00",
    }


@pytest.fixture
def turns(monkeypatch):
    """Stand-ins for the two programs; return the programs that ran, with their rows."""
    ran: list[tuple[str, int]] = []

    def stages(source: Path, size: int, number: int, folder: Path) -> list[Run]:
        assert source.exists()
        folder.mkdir(exist_ok=True)
        ran.append((BOTH, size))
        return [Run(size, number, name, usage(size / 1000), 1) for name in (STANDARDIZE, MIX)]

    def datasets(source: Path, size: int, number: int, folder: Path) -> Run:
        folder.mkdir()
        ran.append((DATASETS, size))
        return Run(size, number, DATASETS, usage(size / 300), 1)

    def filters(size: int, folder: Path) -> list[Run]:
        ran.append(("filters", size))
        return [Run(size, 0, f"{MIX}, {name}", usage(size), 1) for name in FILTERS]

    monkeypatch.setattr(command, "of_stages", stages)
    monkeypatch.setattr(command, "of_datasets", datasets)
    monkeypatch.setattr(command, "of_filters", filters)
    return ran


def test_the_command(turns, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "MOST_FILTERED", 150)
    given = ["--rows", "200", "0.1k", "--repeats", "3", "--filters", "--folder", str(tmp_path / "work")]
    command.main([*given, "--out", str(tmp_path / "out")])
    order = [BOTH, DATASETS, DATASETS, BOTH, BOTH, DATASETS]
    assert turns == [*((name, 100) for name in order), ("filters", 100), *((name, 200) for name in order)]
    assert {path.name for path in (tmp_path / "work").iterdir()} == {"rows-100.parquet", "rows-200.parquet"}
    printed = capsys.readouterr()
    machine, empty, _, _, *found = printed.out.splitlines()
    assert re.match(rf"{contestants.cores()} cores, .+ GiB of memory; Python .+ datasets \d", machine)
    assert empty == "" and [row.split(" | ")[0] for row in found] == ["| 100"] * 7 + ["| 200"] * 4
    assert "1.67 times" in found[2]
    assert re.search(r"0\.0 GB needed for 200 rows, [\d.]+ GB free", printed.err)


def test_nothing_else_in_the_folder_is_touched(turns, tmp_path):
    """A user may name the repository's folder, which has one called stages."""
    for name in ("stages", "datasets"):
        (tmp_path / name).mkdir()
    command.main(["--rows", "100", "--repeats", "1", "--folder", str(tmp_path)])
    assert {path.name for path in tmp_path.iterdir()} == {"stages", "datasets", "rows-100.parquet"}


def test_a_program_that_fails_ends_the_command(turns, tmp_path, monkeypatch):
    def fails(*_):
        raise ProgramError("mix failed with status 1:\nerror: no rows")

    monkeypatch.setattr(command, "of_datasets", fails)
    with pytest.raises(SystemExit, match=r"^error: mix failed with status 1:\nerror: no rows$"):
        command.main(["--rows", "100", "--folder", str(tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == ["rows-100.parquet"]


def test_too_little_disk_is_said_before_anything_runs(turns, tmp_path):
    with pytest.raises(SystemExit, match=r"error: .*GB needed for 1,000,000,000,000 rows.*Give --folder"):
        command.main(["--rows", "1000000M", "--folder", str(tmp_path)])
    assert not turns and not list(tmp_path.iterdir())


def test_a_number_that_is_none(capsys):
    with pytest.raises(SystemExit):
        command.main(["--rows", "many"])
    assert "the number: 'many'" in capsys.readouterr().err
