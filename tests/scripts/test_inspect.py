"""What scripts.inspect prints of files in five layouts, and of what is not right with a file."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scripts import inspect
from sft.core.errors import UserError
from sft.core.params import load
from tests.imports import ROOT
from tests.source_files import lines, rows, written
from tests.tiny import dialogue, table

INSPECTED = Path(__file__).with_name("inspected")
LAYOUTS = sorted(path.stem for path in INSPECTED.glob("*.jsonl"))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder, with a terminal of no kind."""
    monkeypatch.chdir(tmp_path)
    for name in ("FORCE_COLOR", "NO_COLOR", "COLUMNS", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def params(tiny: Any) -> dict[str, Any]:
    values = load(ROOT / "params.yaml")
    values["model"]["reference"] = str(tiny.path)
    values["train"]["max_length"] = 100
    return values


def page(address: str, params: dict[str, Any], capsys: pytest.CaptureFixture) -> str:
    """Return what is printed of the data, with the tiny model called MODEL."""
    inspect.main(address, params)
    return capsys.readouterr().out.replace(params["model"]["reference"], "MODEL")


def section(text: str, name: str) -> list[str]:
    """Return the lines of a section, the spaces in front taken off."""
    of_name = text.partition(f"\n\n{name.ljust(14)}")[2].partition("\n\n")[0]
    return [line.strip() for line in of_name.splitlines()]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_page_of_a_layout(layout, params, capsys, monkeypatch):
    monkeypatch.chdir(INSPECTED)
    monkeypatch.setattr(inspect, "PICTURES", Path("/nowhere"))
    drawn = []
    monkeypatch.setattr("sft.plotting.lengths.histogram", lambda path, *_: drawn.append(path))
    text = page(f"{layout}.jsonl", params, capsys)
    assert text == (INSPECTED / f"{layout}.txt").read_text(encoding="utf-8")
    assert drawn == [Path(f"/nowhere/{layout}.png")]


def test_what_takes_long_is_done_with_a_sample_that_says_so(params, capsys, monkeypatch):
    monkeypatch.setattr(inspect, "TOKENIZED", 20)
    monkeypatch.setattr(inspect, "COMPARED", 30)
    written(Path("my.jsonl"), lines(rows(100)))
    text = page("my.jsonl", params, capsys)
    assert section(text, "Duplicates")[1].startswith("near:  0 of 30 different rows sampled of 100,")
    assert section(text, "Template") == ["MODEL refuses 0 of a sample of 20 rows (of 100)"]
    assert section(text, "Tokens")[0].startswith("a sample of 20 rows (of 100), ")
    assert text == page("my.jsonl", params, capsys)
    assert Path("data/inspect/my.png").read_bytes().startswith(b"\x89PNG")


def test_long_rows_are_fewer_in_a_sample(params, capsys, monkeypatch):
    monkeypatch.setattr(inspect, "TOKENIZED", 10)
    monkeypatch.setattr(inspect, "BYTES", 4)
    written(Path("my.jsonl"), lines([{"prompt": f"{n} five", "completion": "x"} for n in range(10)]))
    assert "refuses 0 of a sample of 5 rows (of 10)" in page("my.jsonl", params, capsys)
    monkeypatch.setattr(inspect, "BYTES", 0)
    assert "refuses 0 of a sample of 1 rows (of 10)" in page("my.jsonl", params, capsys)


def test_rows_that_hold_what_is_held_out(params, capsys):
    asked = [{"conversations": dialogue_of(n), "n": n} for n in range(4)]
    written(Path("my.jsonl"), lines(asked))
    held_out = table([dialogue("q1!", "A1"), dialogue("Q2", "another"), dialogue("q3", "a3")])
    examples = {
        "id": held_out["id"],
        "task": ["theirs", "theirs", "ours"],
        "prompt": [[message] for message, _ in held_out["messages"].to_pylist()],
        "references": [[answer["content"]] for _, answer in held_out["messages"].to_pylist()],
        "calls": pa.nulls(3, pa.string()),
    }
    assert "not compared: there is no data/holdout/evaluation.parquet" in page("my.jsonl", params, capsys)
    Path("data/holdout").mkdir()
    pq.write_table(pa.table(examples), "data/holdout/evaluation.parquet")
    params["tasks"]["ours"] = {**params["tasks"]["question"], "source": "my.jsonl"}
    assert section(page("my.jsonl", params, capsys), "Held out") == [
        "1 row with one of 2 evaluation examples: left out by standardize",
        "q1 -> a1",
        "1 row with the question of one, and another answer: kept",
        "q2 -> a2",
        "1 example made from these rows (tasks.*.source): not compared",
    ]


def dialogue_of(n: int) -> list[dict[str, str]]:
    return [{"from": "human", "value": f"q{n}"}, {"from": "gpt", "value": f"a{n}"}]


def test_fields_that_are_dropped_and_tools_that_the_template_does_not_print(params, capsys):
    tools = [{"type": "function", "function": {"name": "weigh", "parameters": {}}}]
    asked = {"messages": dialogue("How heavy?", "I shall see."), "origin_": {"page": 3}}
    written(Path("my.jsonl"), lines([asked, {**asked, "tools": tools}]))
    text = page("my.jsonl", params, capsys)
    assert section(text, "Layout") == ["OpenAI messages; kind in data.weights: my"]
    assert section(text, "Columns") == ["used:    messages, tools", "dropped: origin_ (2 rows)"]
    assert "1 row with a list of tools (50.0%)" in section(text, "Roles")
    assert section(text, "Template")[:3] == [
        "MODEL refuses 1 of all 2 rows (50.0%)",
        "1 the chat template does not print tools",
        "How heavy? -> I shall see.",
    ]
    assert "more than train.max_refused (1.00%) allows: train would stop." in text


def test_rejects_of_a_folder_name_their_files(params, capsys):
    Path("mine").mkdir()
    for name in ("a", "b"):
        written(Path(f"mine/{name}.jsonl"), lines([{"messages": dialogue(name, name)}, {"messages": []}]))
    assert section(page("mine", params, capsys), "Rejects")[1:] == [
        'mine/a.jsonl row 1: {"messages": []}',
        'mine/b.jsonl row 1: {"messages": []}',
    ]


def test_answers_that_the_source_excepts_from_training(params, capsys):
    masked = [{**turn, "weight": 0} if turn["role"] == "assistant" else turn for turn in dialogue("q", "a")]
    written(Path("my.jsonl"), lines([{"messages": [*masked, *dialogue("why?", "so")]}]))
    text = page("my.jsonl", params, capsys)
    assert "1 row with answers that the source excepts from training" in section(text, "Roles")
    assert "a<|eot|><|start|>user" in text and "[[so<|eot|>]]" in text


def test_all_tokens_in_the_loss_but_the_first(params, capsys):
    written(Path("my.jsonl"), lines(rows(1)))
    params["train"]["loss_on"] = "all"
    text = page("my.jsonl", params, capsys)
    assert section(text, "1") == ["<|start|>[[user", "q0<|eot|><|start|>assistant", "a0<|eot|>]]"]


def test_rows_that_are_left_out_for_their_length(params, capsys):
    written(
        Path("my.jsonl"),
        lines([{"prompt": "long " * 30, "completion": "x"}, {"prompt": "q", "completion": "a"}]),
    )
    assert "1 row with no token of these in the loss: left out (50.0%)" in page("my.jsonl", params, capsys)
    params["train"]["too_long"] = "drop"
    text = page("my.jsonl", params, capsys)
    assert "train.max_length 100: 1 row longer (50.0%), left out" in text and "no token" not in text
    assert "left out: 170 tokens are more than train.max_length (train.too_long: drop)" in text


def test_lengths_that_no_row_has_are_one_line(params, capsys):
    written(Path("my.jsonl"), lines([{"prompt": "long " * n, "completion": "x"} for n in (1, 500)]))
    text = page("my.jsonl", params, capsys)
    drawn = [line.split("  ")[0] for line in section(text, "Tokens") if " - " in line]
    assert drawn == ["23 - 31", "32 - 100", "101 - 2,047", "2,048 - 2,895"]


def test_colours_where_the_terminal_has_them(params, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    written(Path("my.jsonl"), lines(rows(1)))
    text = page("my.jsonl", params, capsys)
    assert "\x1b[32ma0<|eot|>\x1b[0m" in text
    assert "\x1b[2mq0<|eot|><|start|>assistant\x1b[0m" in text
    assert "[[" not in text
    monkeypatch.setenv("NO_COLOR", "1")
    text = page("my.jsonl", params, capsys)
    assert "[[a0<|eot|>]]" in text and "\x1b[32m" not in text


def test_data_cannot_steer_the_terminal(params, capsys):
    rude = [
        {"prompt": "a\x1b[2Jb\u202e\x07", "completion": "[bold]c[/bold]"},
        {"prompt": "\x1b[1m", "completion": ""},
    ]
    written(Path("my.jsonl"), lines(rude))
    text = page("my.jsonl", params, capsys)
    assert "a\\x1b[2Jb\\u202e\\x07<|eot|>" in text and "[[[bold]c[/bold]<|eot|>]]" in text
    assert "\x1b" not in text and "\u202e" not in text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "my.jsonl: no such file"),
        (b"", "my.jsonl: the file is empty"),
        (b"\x80\x81", "my.jsonl: not valid UTF-8"),
        (b"no JSON\n", "no line of it is a JSON object"),
        (b'{"text": "once upon a time"}\n', "my.jsonl: "),
        (b'{"prompt": "q", "completion": ""}\n', "my.jsonl: no row of it is understood"),
        (b'{"prompt": "<|eot|>", "completion": "a"}\n', "of these rows none can be trained on"),
    ],
    ids=["missing", "empty", "not text", "not JSON", "no layout", "all rejected", "all refused"],
)
def test_bad_input(content, said, params, capsys):
    if content is not None:
        written(Path("my.jsonl"), content)
    with pytest.raises(UserError, match=said):
        page("my.jsonl", params, capsys)


def test_a_process_of_its_own(params):
    from ruamel.yaml import YAML

    YAML().dump(params, Path("params.yaml"))
    written(Path("my.jsonl"), lines(rows(3)))

    def run(*arguments: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "scripts.inspect", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, capture_output=True, text=True, env=environment)

    done = run("my.jsonl")
    assert done.returncode == 0 and "my.jsonl: 3 rows" in done.stderr
    assert done.stdout.startswith("my.jsonl\n\nLayout") and "[[a0<|eot|>]]" in done.stdout
    missing = run("other.jsonl")
    assert missing.returncode == 1 and missing.stderr == "error: other.jsonl: no such file. Check the path.\n"


def test_the_page_in_the_docs(capsys):
    """It is what the command prints of docs/inspect/kitchen.jsonl with the params as they are."""
    written(Path("data/raw/kitchen.jsonl"), (ROOT / "docs/inspect/kitchen.jsonl").read_bytes())
    inspect.main("data/raw/kitchen.jsonl", load(ROOT / "params.yaml"))
    assert f"```\n{capsys.readouterr().out}```" in (ROOT / "docs/data.md").read_text(encoding="utf-8")
