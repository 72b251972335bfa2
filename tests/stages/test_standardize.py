"""The standardize stage in this process, on files alone."""

import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sft.core import shards
from sft.core.errors import UserError
from sft.core.files import read_parquet
from sft.core.params import load
from sft.data import account
from sft.statistics.intervals import FEWEST_EXAMPLES
from stages import paths, standardize
from tests.imports import ROOT


def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: list[str], extra: list[str] | None = None
) -> None:
    """Run it on files of 20 rows each, with a task whose source is not trained on."""
    values = load(ROOT / "params.yaml")
    values["data"] |= {"base": base, "extra": extra or []}
    values["data"]["holdout"]["validation"] = 0.25
    values["tasks"] = {"mine": values["tasks"]["question"] | {"source": "data/raw/asked.jsonl"}}
    monkeypatch.chdir(tmp_path)
    for name in [*base, "data/raw/asked.jsonl"]:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        rows = [{"prompt": f"{name} {n}?", "completion": f"Answer {n} of {name}."} for n in range(20)]
        Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    standardize.main(values)


def test_files_of_one_name_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    first, second = "data/raw/a/train.jsonl", "data/raw/b/train.jsonl"
    run(tmp_path, monkeypatch, [first, second, "data/raw/other.jsonl"])
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("kind "))
    assert line == (
        f"kind        train: rows of {first} and {second}; they share a weight in data.weights. "
        "Rename a file to weigh them apart."
    )


def test_what_is_left_out_is_told_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    ask, answer = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
    rows: list[dict] = [
        {"messages": [ask, {**answer, "content": f"a{n}"}], "tags": [], "score": 1} for n in range(400)
    ]
    rows[7] |= {"tags": ["x"]}
    rows[8]["messages"] = [ask, answer, ask]
    rows[6]["messages"] = [{"role": "system", "content": "s"}, {**answer, "content": "alone"}]
    rows[9]["messages"] = [ask, {**answer, "weight": 0}]
    Path(tmp_path, "data/raw").mkdir(parents=True)
    Path(tmp_path, "data/raw/chats.json").write_text(json.dumps(rows))
    run(tmp_path, monkeypatch, ["data/raw/other.jsonl"], ["data/raw/chats.json"])
    none = "no assistant message is trained (weight 0, or train false)"
    assert (
        f"data/raw/chats.json (OpenAI messages): rejected: 1 {none}; dropped: tags, in 1 of its rows; "
        "ending with a user's message, which no answer follows: 1; without any message of a user: 1; "
        "kept beside the rows, not trained on: score\n"
    ) in capsys.readouterr().out
    sources = json.loads(Path(paths.PROVENANCE_STANDARDIZE).read_text())["sources"]
    found = sources["data/raw/chats.json"]
    assert found["layouts"] == "OpenAI messages" and found["used"] == "messages"
    assert (found["kept"], found["no_user"]) == ("score", 1)
    assert (found["dropped"], found["ends_on_user"], found["reasons"]) == ({"tags": 1}, 1, {none: 1})
    assert sources["data/raw/other.jsonl"]["layouts"] == "pairs"


def test_without_a_task_that_is_trained_on_the_validation_rows_are_a_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    run(tmp_path, monkeypatch, ["data/raw/other.jsonl"])
    rows = len(read_parquet(paths.VALIDATION))
    assert rows and f"validation  {rows:>9,} rows\n" in capsys.readouterr().out


def test_near_copies_of_what_is_held_out_leave_training_and_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """60 texts of one's own, each there a second time with a word changed."""
    mine = "data/raw/mine.jsonl"
    values = load(ROOT / "params.yaml")
    values["data"] |= {"base": [mine], "extra": []}
    values["tasks"] = {"mine": values["tasks"]["question"] | {"source": mine, "holdout": 12}}
    monkeypatch.chdir(tmp_path)
    Path(mine).parent.mkdir(parents=True)
    draw = random.Random(0)
    texts = [[f"word{draw.randint(0, 5_000)}" for _ in range(80)] for _ in range(60)]
    copies = [[*text[:40], "changed", *text[41:]] for text in texts]
    rows = [{"prompt": " ".join(text[:20]), "completion": " ".join(text[20:])} for text in texts + copies]
    Path(mine).write_text("".join(json.dumps(row) + "\n" for row in rows))
    standardize.main(values)
    metrics = json.loads(Path(paths.METRICS_STANDARDIZE).read_text())
    (held, left, validated) = (
        {words[:100] for words in texts_of(rows)}
        for rows in (read_parquet(paths.EVALUATION), shards.read(paths.BASE), read_parquet(paths.VALIDATION))
    )
    assert not (held | validated) & left and metrics["evaluation"] == {"mine": 12}
    near = metrics["near_held_out"]
    assert near > 20 and near + metrics["base_rows"] + 12 + metrics["validation"]["mine"] == 120
    assert json.loads(Path(paths.PROVENANCE_STANDARDIZE).read_text())["near_held_out"] == {mine: near}
    assert f"near        {near:>9,} rows nearly repeat a held-out one" in capsys.readouterr().out


def test_of_few_rows_most_are_trained_on_and_too_few_examples_are_said_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    mine = "data/raw/mine.jsonl"
    values = load(ROOT / "params.yaml")
    values["data"] |= {"base": [mine], "extra": []}
    values["tasks"] = {"mine": values["tasks"]["question"] | {"source": mine, "holdout": 0.2}}
    monkeypatch.chdir(tmp_path)
    Path(mine).parent.mkdir(parents=True)
    rows = [{"prompt": f"What is {n} + {n}?", "completion": f"{n * 2}", "tags": ["sum"]} for n in range(60)]
    Path(mine).write_text("".join(json.dumps(row) + "\n" for row in rows))
    standardize.main(values)
    metrics = json.loads(Path(paths.METRICS_STANDARDIZE).read_text())
    validated, trained = metrics["validation"]["mine"], metrics["base_rows"]
    assert metrics["evaluation"]["mine"] < account.FEWEST_EXAMPLES == FEWEST_EXAMPLES
    assert 10 <= validated < trained / 2
    said = capsys.readouterr().out
    assert "and fewer than 16 are not judged: raise tasks.mine.holdout, or add rows" in said
    assert f"mine has {validated} rows for validation, not 32: of few rows most are left" in said
    assert (metrics["dropped_columns"], metrics["ends_on_user"]) == (1, 0)


def texts_of(rows: pa.Table) -> list[str]:
    """Return what the user says first."""
    column = "prompt" if "prompt" in rows.column_names else "messages"
    return [messages[0]["content"] for messages in rows[column].to_pylist()]


def test_choices_reach_the_examples_and_no_further(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = "data/raw/mine.jsonl"
    values = load(ROOT / "params.yaml")
    values["data"] |= {"base": [mine], "extra": []}
    asked = {"source": mine, "holdout": 10, "metrics": ["multiple_choice"]}
    values["tasks"] = {"mine": values["tasks"]["question"] | asked}
    monkeypatch.chdir(tmp_path)
    Path(mine).parent.mkdir(parents=True)
    rows = [
        {"question": f"What is {n} + {n}?", "choices": [str(2 * n), str(n)], "answer": str(2 * n)}
        for n in range(40)
    ]
    Path(mine).write_text("".join(json.dumps(row) + "\n" for row in rows))
    standardize.main(values)
    examples = read_parquet(paths.EVALUATION).to_pylist()
    assert len(examples) == 10 and all(row["choices"][0] == row["references"][0] for row in examples)
    columns = shards.read(paths.BASE).column_names + read_parquet(paths.VALIDATION).column_names
    assert "choices" not in columns


@pytest.mark.parametrize("kept", [0.5, 0.99])
def test_an_unreadable_file_among_others_is_a_reject_of_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, kept: float
) -> None:
    """With a damaged page its footer tells how many are lost; cut off it counts as others of its size."""
    folder = tmp_path / "data/raw/chats"
    folder.mkdir(parents=True)
    rows = [{"prompt": f"Question {n}, {n % 7}?", "completion": f"Answer {n * n}."} for n in range(900)]
    for number in range(3):
        pq.write_table(pa.Table.from_pylist(rows[number * 300 :][:300]), folder / f"{number}.parquet")
    damaged = bytearray((folder / "1.parquet").read_bytes())
    if kept == 0.5:
        damaged = damaged[: len(damaged) // 2]
    else:
        damaged[30:90] = b"x" * 60
    (folder / "1.parquet").write_bytes(damaged)
    values = load(ROOT / "params.yaml")
    values["data"] |= {"base": ["data/raw/chats"], "extra": [], "max_rejects": 0.4}
    values["tasks"] = {"mine": values["tasks"]["question"] | {"source": "data/raw/chats", "holdout": 40}}
    monkeypatch.chdir(tmp_path)
    standardize.main(values)
    metrics = json.loads(Path(paths.METRICS_STANDARDIZE).read_text())
    lost = metrics["rejects"]
    assert 120 < lost < 180 if kept == 0.5 else lost == 300
    assert 500 < metrics["base_rows"] <= 560
    (reject,) = map(json.loads, Path(paths.REJECTS).read_text().splitlines())
    assert reject["source"] == "data/raw/chats/1.parquet" and reject["reason"] == "unreadable file"
    assert "not a readable Parquet file" in reject["detail"]
    assert f"{600:,} rows, {lost} rejected" in capsys.readouterr().out

    values["data"]["max_rejects"] = 0.001
    with pytest.raises(
        UserError, match=rf"chats: {lost} of {600 + lost} rows .*\n  data/raw/chats/1\.parquet: "
    ):
        standardize.main(values)
    (folder / "0.parquet").unlink()
    (folder / "2.parquet").unlink()
    with pytest.raises(UserError, match=r"^data/raw/chats/1\.parquet: not a readable Parquet file"):
        standardize.main(values)
