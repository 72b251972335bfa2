"""Small data files for the tests of sources."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def rows(count: int, start: int = 0, **more: object) -> list[dict]:
    return [
        {"conversations": [{"from": "human", "value": f"q{n}"}, {"from": "gpt", "value": f"a{n}"}], **more}
        for n in range(start, start + count)
    ]


def lines(entries: list[dict]) -> bytes:
    return "".join(json.dumps(entry) + "\n" for entry in entries).encode()


def parquet(path: Path, entries: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(entries), path)


def written(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
