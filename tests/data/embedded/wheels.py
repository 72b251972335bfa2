"""A wheel such as the embedded packages are, and what is read from one."""

import zipfile
from pathlib import Path

from sft.data.source_rows import SourceRows


def wheel_of(folder: Path, files: dict[str, str | bytes]) -> Path:
    path = folder / "package-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def rows(result: SourceRows) -> list[dict]:
    read_rows = result.table.to_pylist()
    for row in read_rows:
        roles = [message["role"] for message in row["messages"]]
        assert roles == ["user", "assistant"] * (len(roles) // 2) and roles
        for message in row["messages"]:
            assert message["content"] and message["content"] == message["content"].strip()
    return read_rows


def contents(row: dict) -> list[str]:
    return [message["content"] for message in row["messages"]]
