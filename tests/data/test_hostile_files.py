"""Files made to take a machine's memory or its day: each is refused, or its row a reject, within bounds.

The cases run in one process of their own. Its peak of memory, and the seconds after which it would be ended,
are the bounds; docs/robustness.md says what each case takes.
"""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from sft.core.errors import UserError
from sft.data import json_blocks
from sft.data.sources import load

GOOD = json.dumps({"prompt": "q", "completion": "a"}) + "\n"
DEEP = "[" * 100_000 + "]" * 100_000
MOST_MEMORY = 800 << 20  # bytes of the process that reads them all
MOST_SECONDS = 240

# Reads each file, and prints in JSON what comes out.
READER = """
import json, sys, time
from sft.core.errors import UserError
from sft.data.sources import load
found = {}
for name in sys.argv[1:]:
    started = time.process_time()
    try:
        loaded = load(name)
        said = [len(loaded.table), [[reject.row, reject.why()[:200]] for reject in loaded.rejects]]
    except UserError as error:
        said = str(error)
    # Of this program only: ru_maxrss begins with what the process had before it.
    peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
    found[name] = [said, time.process_time() - started, peak << 10]
print("found", json.dumps(found))
"""


def sparse(path: Path, size: int) -> None:
    """Write a good row and one of `size` bytes, which take no room on a disk."""
    with path.open("wb") as file:
        file.write(GOOD.encode() + b'{"prompt": "')
        file.seek(size, os.SEEK_CUR)
        file.write(b'"}\n' + GOOD.encode())


def save(folder: Path) -> None:
    """Write the files."""
    block = b" " * (64 << 20)
    sparse(folder / "row_of_2_gb.jsonl", 2 << 30)
    (folder / "bomb.jsonl.gz").write_bytes(gzip.compress(GOOD.encode()) + gzip.compress(block, 1) * 64)
    (folder / "bomb.jsonl.zst").write_bytes(zstandard.compress(block) * 64)
    (folder / "bomb.json.gz").write_bytes(gzip.compress(b'["') + gzip.compress(block, 1) * 64)
    (folder / "long_entry.json").write_bytes(b'[{"prompt": "' + block + b'"}]')
    (folder / "long_key.jsonl").write_bytes(GOOD.encode() + b'{"' + b"k" * (100 << 20) + b'": 1}\n')
    (folder / "deep.jsonl").write_text(GOOD + f'{{"prompt": {DEEP}}}\n')
    (folder / "deep.json").write_text(f'[{{"prompt": {DEEP}}}]')
    tools = {
        "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
        "tools": DEEP,
    }
    call = {"name": "f", "arguments": DEEP}
    calls = {"messages": [tools["messages"][0], {"role": "assistant", "tool_calls": [call]}]}
    literal = {**tools, "tools": "[" + "0," * 2_000_000 + "']"}
    lines = "".join(json.dumps(row) + "\n" for row in (tools, calls, literal))
    (folder / "deep_tools.jsonl").write_text(lines)
    many = {"messages": [{"role": "user", "content": "q"}] * 900_000}
    (folder / "many_messages.jsonl").write_text(GOOD.replace('"prompt"', '"text"') + json.dumps(many) + "\n")
    (folder / "many_objects.jsonl").write_text(GOOD + '{"messages": [' + "{}," * 20_000_000 + "{}]}\n")
    (folder / "many_keys.jsonl").write_text("".join(f'{{"k{n}": 1}}\n' for n in range(30_000)))
    (folder / "many_spaced_keys.jsonl").write_text("".join(f'{{"k{n}"  : 1}}\n' for n in range(30_000)))
    (folder / "digits.jsonl").write_text(GOOD + f'{{"prompt": {"9" * 10**6}}}\n{{"prompt": 1e999999}}\n')
    parquet(folder)


def parquet(folder: Path) -> None:
    long = pa.array(["x" * (1 << 20)])
    repeated = pa.DictionaryArray.from_arrays(pa.array([0] * 20_000, pa.int32()), long)
    table = pa.table({"prompt": ["q"] * 20_000, "completion": repeated})
    pq.write_table(table, folder / "dictionary.parquet", compression="zstd", store_schema=False)
    pq.write_table(table, folder / "dictionary_kept.parquet", compression="zstd")
    message = pa.StructArray.from_arrays([pa.array(["user"] * 20_000), repeated], ["role", "content"])
    lists = pa.ListArray.from_arrays(pa.array([0, 20_000], pa.int32()), message)
    pq.write_table(
        pa.table({"messages": lists}), folder / "nested.parquet", compression="zstd", store_schema=False
    )
    page = pa.table({"prompt": ["q"], "completion": [" " * (300 << 20)]})
    pq.write_table(page, folder / "page.parquet", compression="zstd", use_dictionary=False)
    noise = os.urandom(40 << 20).hex()
    rows = pa.table({"prompt": ["q", "q"], "completion": [noise, "a"]})
    pq.write_table(rows, folder / "long_row.parquet", compression="none", use_dictionary=False)
    message = pa.StructArray.from_arrays(
        [pa.array(["user"] * 2 * 10**6), pa.array(["q"] * 2 * 10**6)], ["role", "content"]
    )
    lists = pa.ListArray.from_arrays(pa.array([0, 2 * 10**6], pa.int32()), message)
    pq.write_table(pa.table({"messages": lists}), folder / "many_messages.parquet")


LONG = "longer than the 64 MiB that a row may have"
UNREADABLE = ("tools", "tool calls", "tools")
CASES: dict[str, str | tuple[int, list]] = {
    "row_of_2_gb.jsonl": (2, [[1, f"{LONG}: line 2"]]),
    "bomb.jsonl.gz": "which no text does: the file is not what it should be",
    "bomb.jsonl.zst": "which no text does: the file is not what it should be",
    "bomb.json.gz": f"entry 1 is {LONG}",
    "long_entry.json": f"entry 1 is {LONG}",
    "long_key.jsonl": (1, [[1, f"{LONG}: line 2"]]),
    "deep.jsonl": (1, [[1, "invalid JSON: line 2: nested too deeply"]]),
    "deep.json": "nested too deeply",
    "deep_tools.jsonl": (0, [[at, f"{what} that cannot be read"] for at, what in enumerate(UNREADABLE)]),
    "many_messages.jsonl": (0, [[0, "no messages"], [1, "more than 10,000 messages"]]),
    "many_objects.jsonl": (1, [[1, "more than 1,000,000 lists and objects: line 2"]]),
    "many_keys.jsonl": "its rows have 30,000 keys in sum (k0, k1, k2, ...), and 1,000 at most are read",
    "many_spaced_keys.jsonl": "its rows have 30,000 keys in sum",
    "digits.jsonl": (1, [[1, "invalid JSON: line 2: a number of too many digits"], [2, "mixed types"]]),
    "dictionary.parquet": "values of completion repeat to",
    "dictionary_kept.parquet": "values of completion repeat to",
    "nested.parquet": "values of messages.list.element.content repeat to 20,000 MiB",
    "page.parquet": "bytes of column 'completion' unpack to 300 MiB",
    "long_row.parquet": (1, [[0, LONG]]),
    "many_messages.parquet": (0, [[0, "more than 10,000 messages"]]),
}


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="Linux tells the peak of memory"
)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Read all files in one process; return by name what it says of each."""
    folder = tmp_path_factory.mktemp("hostile")
    save(folder)
    command = [sys.executable, "-c", READER, *CASES]
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=MOST_SECONDS
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.rpartition("found ")[2])


@needs_proc
@pytest.mark.parametrize("name", CASES)
def test_what_is_said(found, name):
    wanted, (said, _, _) = CASES[name], found[name]
    if isinstance(wanted, str):
        assert said.startswith(f"{name}: ") and wanted in said and len(said) < 1_000
    else:
        assert said == [wanted[0], wanted[1]]


@needs_proc
def test_memory(found):
    peaks = {name: peak >> 20 for name, (_, _, peak) in found.items()}
    assert max(peak for _, _, peak in found.values()) < MOST_MEMORY, peaks


def test_a_file_of_nothing_but_faults(tmp_path, monkeypatch):
    monkeypatch.setattr(json_blocks, "REJECTS", 10)
    (tmp_path / "faults.jsonl").write_text(GOOD + "x\n" * 11)
    with pytest.raises(
        UserError, match=r"more than 10 entries of it are no rows\. The first: invalid JSON: line 2"
    ):
        load(str(tmp_path / "faults.jsonl"))


@pytest.mark.parametrize("name", ["pipe.jsonl", "folder.jsonl", "loop.jsonl", "/dev/zero"])
def test_what_is_no_file(tmp_path, name):
    """Opening a pipe would wait for ever, reading the device never end."""
    path = tmp_path / name
    if name == "pipe.jsonl":
        os.mkfifo(path)
    elif name == "folder.jsonl":
        (path / "inner").mkdir(parents=True)
        os.mkfifo(path / "inner" / "pipe.jsonl")
    elif name == "loop.jsonl":
        path.symlink_to(path)
    with pytest.raises(UserError, match=name):
        load(str(path))
