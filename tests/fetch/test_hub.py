"""Data sets and models of the hub: the real client against a hub on the loopback."""

import gzip
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sft.core.errors import UserError
from sft.fetch import data_files
from sft.fetch import hub as hub_module
from tests.hub_server import HubServer
from tests.imports import ROOT
from tests.source_files import lines, parquet, rows, written

# The client reads its endpoint when it is imported, so each of these runs in a process of its own.
CLIENT = """
import json, sys
from sft.data import sources
from sft.fetch import hub
from sft.fetch.uri import parse
from sft.core.errors import UserError
for uri in sys.argv[1:]:
    try:
        source = parse(uri)
        if source.scheme == "model":
            folder, commit = hub.model_dir(source.name, source.revision)
            files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
            answer = {"files": sorted(files), "commit": commit}
        else:
            loaded = sources.load(uri)
            messages = loaded.table["messages"].to_pylist()
            answer = {"rows": [row[0]["content"] for row in messages], "commit": loaded.resolved}
    except UserError as error:
        answer = {"error": str(error)}
    print("ANSWER " + json.dumps(answer))
"""


def environment(hub: HubServer, cache: Path) -> dict[str, str]:
    clean = {key: value for key, value in os.environ.items() if not key.upper().startswith(("HF_", "HTTP"))}
    return {**clean, "PYTHONPATH": str(ROOT), **hub.environment(cache)}


def waited(found):
    """Return what `found` returns once it is something."""
    for _ in range(600):
        if value := found():
            return value
        time.sleep(0.1)
    raise AssertionError("it did not come")


def client(hub: HubServer, cache: Path, *uris: str, **more: str) -> tuple[list[dict], str]:
    """Load the URIs in a fresh process; return its answers and all that it printed."""
    command = [sys.executable, "-c", CLIENT, *uris]
    env = environment(hub, cache) | more
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    answers = [line[7:] for line in done.stdout.splitlines() if line.startswith("ANSWER ")]
    return [json.loads(answer) for answer in answers], done.stdout + done.stderr


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    root = tmp_path_factory.mktemp("hub")
    sets = root / "datasets/org"
    parquet(sets / "split/data/train-00001-of-00002.parquet", rows(2, 2, source="x"))
    parquet(sets / "split/data/train-00000-of-00002.parquet", rows(2, source="x"))
    parquet(sets / "split/data/test-00000-of-00001.parquet", rows(1, 9))
    written(sets / "split/README.md", b"about")
    written(sets / "plain/b [1].jsonl", lines(rows(1, 7)))
    written(sets / "plain/a.json.gz", gzip.compress(lines(rows(1, 6))))
    written(sets / "plain/dataset_infos.json", b"{}")
    written(sets / "both/a.jsonl", lines(rows(1)))
    parquet(sets / "both/a.parquet", rows(1))
    written(sets / "none/README.md", b"about")
    written(sets / "gated/a.jsonl", lines(rows(1)))
    # The client writes 10 MiB at a time: only beyond that is there something to resume from.
    written(sets / "early/early.jsonl", lines([{**row, "pad": "x" * 12_000} for row in rows(2000)]))
    written(sets / "reset/reset.jsonl", lines([{**row, "pad": "x" * 1_000} for row in rows(2000)]))
    model = root / "models/org/tiny"
    for name in (
        "config.json", "tokenizer.json", "model.safetensors", "pytorch_model.bin", "tiny.gguf",
        "original/consolidated.pth", "onnx/model.onnx", "modeling_tiny.py",
    ):  # fmt: skip
        written(model / name, name.encode())
    written(root / "models/org/old/pytorch_model.bin", b"weights")
    for name in ("config.json", "pytorch_model.bin", "original/consolidated.safetensors"):
        written(root / "models/org/original" / name, name.encode())
    written(root / "models/org/bare/config.json", b"{}")
    with HubServer(root) as server:
        server.gated.add("org/gated")
        yield server


def test_hub_data_and_models(hub, tmp_path):
    commit = hub.commit("datasets", "org/split")
    tiny = hub.commit("models", "org/tiny")
    answers, printed = client(
        hub,
        tmp_path,
        "hf://datasets/org/split",
        f"hf://datasets/org/split@{commit}#data/test-*",
        "hf://datasets/org/plain@main",
        f"hf://org/tiny@{tiny}",
        "hf://org/old@main",
        "hf://org/original@main",
    )
    assert answers[0] == {"rows": ["q0", "q1", "q2", "q3"], "commit": commit}
    assert answers[1] == {"rows": ["q9"], "commit": commit}
    assert answers[2] == {"rows": ["q6", "q7"], "commit": hub.commit("datasets", "org/plain")}
    assert answers[3] == {"files": ["config.json", "model.safetensors", "tokenizer.json"], "commit": tiny}
    # A pickle is not even fetched; and safetensors that transformers does not load are no weights.
    for answer in answers[4:]:
        assert "pytorch_model.bin is a pickle, which could run any code as it is loaded" in answer["error"]
    assert not [path for _, path, _ in hub.requests if path.endswith((".bin", ".py"))]
    assert f"hf://datasets/org/split is not pinned: it is now at {commit}" in printed
    assert "hf://datasets/org/plain is not pinned" not in printed

    # What is whole in the cache at a full commit hash needs no hub, offline or unreachable.
    pinned = (f"hf://datasets/org/split@{commit}", f"hf://org/tiny@{tiny}")
    asked = len(hub.requests)
    for setting in ({"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}, {}):
        assert client(hub, tmp_path, *pinned, **setting)[0] == [answers[0], answers[3]]
    assert len(hub.requests) == asked


def test_hub_faults(hub, tmp_path):
    nowhere = "0" * 40
    answers, _ = client(
        hub,
        tmp_path,
        "hf://datasets/org/missing@main",
        "hf://datasets/org/gated@main",
        "hf://datasets/org/split@v9",
        f"hf://datasets/org/split@{nowhere}",
        "hf://datasets/org/none@main",
        "hf://datasets/org/both@main",
        "hf://datasets/org/split@main#*.csv",
        "hf://datasets/org/split@main#README.md",
        "hf://org/missing@main",
        "hf://org/bare@main",
    )
    expected = [
        "no such dataset, or it is private. Check the name; if it is private, set HF_TOKEN",
        "access is restricted. Accept the terms",
        "no revision 'v9'",
        f"no revision '{nowhere}'",
        "holds no data files",
        "holds Parquet and JSON files",
        "no file matches #*.csv. The files are: README.md, data/test-00000",
        "README.md, which is no data file",
        "no such model",
        "holds no weights",
    ]
    for answer, said in zip(answers, expected, strict=True):
        assert said in answer["error"]
        assert answer["error"].startswith("hf://")


@pytest.mark.parametrize("setting", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}])
def test_hub_that_cannot_be_reached(hub, tmp_path, setting):
    uris = ("hf://datasets/org/split@main", f"hf://org/tiny@{'1' * 40}")
    for answer in client(hub, tmp_path, *uris, **setting)[0]:
        assert "the hub cannot be reached" in answer["error"]
        assert "full commit hash" in answer["error"]


@pytest.mark.parametrize("way", ["early", "reset"])
def test_broken_transfer_is_taken_up_again(hub, tmp_path, way):
    hub.breaks[f"{way}.jsonl"] = [way]
    asked = len(hub.requests)
    answers, _ = client(hub, tmp_path, f"hf://datasets/org/{way}@main#{way}.jsonl")
    assert answers[0]["rows"] == [f"q{n}" for n in range(2000)]
    assert hub.breaks[f"{way}.jsonl"] == []
    gets = [span for method, path, span in hub.requests[asked:] if method == "GET" and "/resolve/" in path]
    assert len(gets) == 2
    if way == "early":
        assert gets[1] == f"bytes={10 << 20}-"


def test_a_killed_transfer_goes_on_from_where_it_was(hub, tmp_path):
    """Whatever the library does by itself: the versions from 1.32 on forget what a killed process had."""
    hub.breaks["early.jsonl"] = ["stall"]
    hub.stalled.clear()
    uri = "hf://datasets/org/early@main#early.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-c", CLIENT, uri],
        env=environment(hub, tmp_path),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert hub.stalled.wait(60)
    # A chunk that is being written grows under the eyes of whoever looks: wait until it is whole.
    whole = 10 << 20
    partial = waited(lambda: [p for p in tmp_path.rglob("*.incomplete") if p.stat().st_size >= whole])
    process.kill()
    process.wait()
    had = partial[0].stat().st_size
    asked = len(hub.requests)
    answers, _ = client(hub, tmp_path, uri)
    assert len(answers[0]["rows"]) == 2000 and had >= whole
    gets = [span for method, path, span in hub.requests[asked:] if method == "GET" and "/resolve/" in path]
    assert gets == [f"bytes={had}-"] and not list(tmp_path.rglob("*.incomplete"))


def test_damaged_files_are_fetched_anew_and_refused_if_they_come_damaged_again(hub, tmp_path):
    """At the right size: large files, which have their SHA-256, and small ones, which have Git's SHA-1."""
    commit = hub.commit("models", "org/tiny")
    hub.breaks["model.safetensors"] = ["wrong", "wrong"]
    (answer,), printed = client(hub, tmp_path, f"hf://org/tiny@{commit}")
    assert "model.safetensors does not have the checksum that the hub names it by, twice" in answer["error"]
    assert "hf://org/tiny: model.safetensors is damaged in the cache; it is fetched anew" in printed

    folder = next(tmp_path.rglob(f"snapshots/{commit}"))
    config = (folder / "config.json").resolve()
    config.write_bytes(config.read_bytes()[:-1] + b"!")
    (answer,), printed = client(hub, tmp_path, f"hf://org/tiny@{commit}")
    assert answer["files"] == ["config.json", "model.safetensors", "tokenizer.json"]
    for name in ("config.json", "model.safetensors"):
        assert f"{name} is damaged in the cache; it is fetched anew" in printed
        assert (folder / name).read_bytes() == name.encode()


def test_transfer_that_keeps_breaking_leaves_nothing_taken_for_whole(hub, tmp_path):
    hub.breaks["reset.jsonl"] = ["reset"] * 3
    commit = hub.commit("datasets", "org/reset")
    uri = f"hf://datasets/org/reset@{commit}#reset.jsonl"
    answers, printed = client(hub, tmp_path, uri)
    assert "cannot be fetched" in answers[0]["error"]
    assert printed.count("going on") == 2
    assert "cannot be reached" in client(hub, tmp_path, uri, HF_HUB_OFFLINE="1")[0][0]["error"]
    assert len(client(hub, tmp_path, uri)[0][0]["rows"]) == 2000


def test_files_of_two_kinds_whatever_the_kinds(monkeypatch):
    monkeypatch.setitem(data_files.KINDS, "CSV", (".csv",))
    names = ["rows.csv", "rows.json", "rows.jsonl"]
    with pytest.raises(UserError, match=r"holds JSON and CSV files, .*: rows\.csv, .* such as #\*\.json$"):
        hub_module._data_names(names, None, "hf://datasets/org/name")
    assert hub_module._data_names(names[1:], None, "hf://datasets/org/name") == names[1:]
