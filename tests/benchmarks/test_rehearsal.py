"""The rehearsal of the study's preset: the hub's stand-in serves what the preset needs, as the hub has it."""

import copy
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.rehearsal import __main__ as command
from benchmarks.rehearsal import clone, data, model, running, served
from benchmarks.rehearsal.record import Record
from benchmarks.rehearsal.running import CommandError, Runner, Step, environment
from benchmarks.rehearsal.scale import FULL, SMALL
from benchmarks.rehearsal.verdict import faults
from sft.core.params import load, section
from sft.data import roles
from sft.modeling.chat_template import encode, render
from sft.modeling.loading import load_model, load_tokenizer, resolve, stop_token_ids
from sft.training.train_params import TrainParams
from tests import hub_server
from tests.hub_server import HubServer
from tests.imports import ROOT

MODEL, FINETOME, TOME = "unsloth/Llama-3.2-3B-Instruct", "mlabonne/FineTome-100k", "arcee-ai/The-Tome"
PRESET = ROOT / "presets" / f"{command.PRESET}.yaml"
COMMIT = "c2343c1372ff31f51aa21248db18bffa3193efdb"
SCALE = replace(SMALL, base=1_500, others=1_200)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    """Serve what the preset names, with FineTome pinned to a commit and the weights in several files."""
    params = load(PRESET)
    params["data"]["base"] = [f"{params['data']['base'][0]}@{COMMIT}"]
    with pytest.MonkeyPatch.context() as patch, HubServer(tmp_path_factory.mktemp("hub")) as hub:
        patch.setattr(model, "SHARD", "16MB")
        patch.setattr(hub_server, "LARGE", 100_000)  # what is larger is hashed once
        hub.made = served.make(hub, params, SCALE)
        yield hub


def loaded(hub: HubServer, cache: Path) -> dict[str, Any]:
    """Read both data sets and fetch the model as the stages do, in a process with another HF_ENDPOINT."""
    program = """if True:
        import json, sys
        from sft.data.sources import load
        from sft.fetch.hub import damaged, model_dir
        found = {}
        for uri in sys.argv[2:]:
            read = load(uri)
            reasons = sorted({reject.why() for reject in read.rejects})
            found[uri] = [read.table.num_rows, len(read.rejects), reasons, read.table["id"].to_pylist(),
                          sorted({m["role"] for row in read.table["messages"].to_pylist() for m in row})]
        folder, commit = model_dir(sys.argv[1], None)
        names = sorted(path.name for path in folder.iterdir())
        found["model"] = [commit, names, list(map(str, damaged(folder, names)))]
        print(json.dumps(found))
    """
    uris = [f"hf://datasets/{FINETOME}@{COMMIT}", f"hf://datasets/{TOME}"]
    env = environment(hub.environment(cache)) | {"PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [sys.executable, "-c", program, MODEL, *uris], cwd=cache, env=env, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    return {"finetome": found[uris[0]], "tome": found[uris[1]], "model": found["model"]}


def test_the_hub_serves_what_the_preset_needs(hub, tmp_path):
    found = loaded(hub, tmp_path)
    rows, rejects, reasons, ids, said_by = found["finetome"]
    assert rows + rejects == 1_500 and 0 < rejects < 15
    assert said_by == ["assistant", "system", "tool", "user"]
    assert "unknown role: 'narrator'" in reasons and "no messages" in reasons
    rows, rejects, reasons, of_tome, said_by = found["tome"]
    assert rows + rejects == 2_700 and 0 < rejects < 27
    assert said_by == ["assistant", "system", "tool", "user"]
    assert set(ids) < set(of_tome) and len(set(ids)) == len(ids) and len(set(of_tome)) < len(of_tome)

    commit, names, damaged = found["model"]
    assert commit == hub.commit("models", MODEL) and not damaged
    assert "tokenizer.json" in names and "model.safetensors.index.json" in names
    assert len([name for name in names if name.endswith(".safetensors")]) == 2
    assert [of.commit for of in hub.made] == [commit, COMMIT, hub.commit("datasets", TOME)]


def test_the_model_is_one_of_llama_3_2(hub):
    base = resolve(str(hub.root / "models" / MODEL))
    tokenizer, loaded = load_tokenizer(base), load_model(base, "float32", "cpu")
    assert base.weights == "BF16"
    assert loaded.config.rope_parameters["rope_type"] == "llama3"
    assert loaded.config.rope_parameters["rope_theta"] == 500000.0
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    assert loaded.lm_head.weight.std().item() == pytest.approx(0.02, rel=0.01)
    assert stop_token_ids(tokenizer, loaded) == [128001, 128008, 128009]
    assert tokenizer("a").input_ids[0] == 128000  # by itself, as on the hub
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert encode(tokenizer, chat).input_ids.count(128000) == 1
    assert "Today Date: 26 Jul 2024" in render(tokenizer, chat)
    names = {id: tokenizer.convert_ids_to_tokens(id) for id in (128002, 128004, 128005, 128010, 128255)}
    assert list(names.values()) == [
        "<|reserved_special_token_0|>",
        "<|finetune_right_pad_id|>",
        "<|reserved_special_token_2|>",
        "<|python_tag|>",
        "<|reserved_special_token_247|>",
    ]


def test_the_data_sets_are_like_those_of_the_hub(hub):
    finetome = pq.read_table(hub.root / "datasets" / FINETOME / data.FINETOME_FILE)
    assert finetome.column_names == ["conversations", "source", "score"]
    assert finetome.nbytes / len(finetome) == pytest.approx(2_396, rel=0.1)
    path = hub.root / "datasets" / TOME / data.TOME_FILE
    tome = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert path.stat().st_size / len(tome) == pytest.approx(2_618, rel=0.1)
    as_text = [json.dumps(row["conversations"]) for row in tome]
    assert {json.dumps(row) for row in finetome["conversations"].to_pylist()} <= set(as_text)
    assert any("\\n\\n\\tprint" in text for text in as_text)


def test_every_name_of_a_speaker_is_taken():
    """A name that standardize comes to know belongs to the rehearsal too."""
    aliases = {role: set(names.split()) for role, names in roles._ALIASES.items()}
    system, user, assistant, call, result = (set(names.lower().split()) for names in data.SPEAKERS)
    assert system == aliases["system"] and user == aliases["user"] and result == aliases["tool"]
    assert assistant | call == aliases["assistant"]


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    words = [f"word{n}" for n in range(500)]
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        data.write(tmp_path / folder / "f", tmp_path / folder / "t", words, 30, 50, seed)
    texts = [(tmp_path / folder / "t" / data.TOME_FILE).read_bytes() for folder in "abc"]
    tables = [pq.read_table(tmp_path / folder / "f" / data.FINETOME_FILE) for folder in "abc"]
    assert texts[0] == texts[1] != texts[2] and tables[0] == tables[1] != tables[2]
    assert texts[0].count(b"\n") == 80


def test_rows_are_written_as_json_writes_them():
    turns = [{"from": "human", "value": 'a "b" \\ c\nd\te “ü”'}, {"from": None, "value": None}]
    table = pa.table({"conversations": pa.array([turns, None, []], data.MESSAGES), "source": ["x", "y", "z"]})
    lines = bytes(data._json_lines(table.slice(0, 3))).decode().splitlines()
    assert [json.loads(line)["conversations"] for line in lines] == [turns, None, []]
    assert [json.loads(line)["source"] for line in lines] == ["x", "y", "z"]


def test_what_a_command_ran_is_told_stage_by_stage(tmp_path):
    log = io.StringIO()
    runner = Runner(tmp_path, dict(os.environ), log, time.monotonic())
    stages = "for stage in 'ab': print(f\"Running stage '{stage}':\")\n"
    steps: list[Step] = []
    with pytest.raises(CommandError, match="status 3"):
        runner.run("fails", [sys.executable, "-c", f"{stages}import sys; print('why'); sys.exit(3)"], steps)
    assert [step.name for step in steps] == ["a", "b"]
    assert "why" in log.getvalue() and "Running stage 'a'" in log.getvalue()
    alone: list[Step] = []
    runner.run("none", [sys.executable, "-c", "print(1)"], alone)
    assert [step.name for step in alone] == ["none"]


def test_each_stage_has_its_own_time_and_memory():
    step, memory = Step("a"), SimpleNamespace(peak=2**30)
    now = running._close(step, memory, time.monotonic() - 2.0)
    assert (step.memory, memory.peak) == (2**30, 0) and step.seconds > 1.9
    assert now <= time.monotonic()


def record() -> Record:
    """Make the record of a rehearsal in which all came out as it has to."""
    commits = {MODEL: "a" * 40, FINETOME: "b" * 40, TOME: "c" * 40}
    made = [served.Repository(name, commit, 1, 1.0) for name, commit in commits.items()]
    every = ["check", "standardize", "mix", "train", "baseline", "evaluate", "plot", "card"]
    sources = {
        f"hf://datasets/{of.name}": {"rows": rows, "rejects": 5, "resolved": of.commit}
        for of, rows in zip(made[1:], (1_000, 3_300), strict=True)
    }
    of_model = {
        "device": "cpu",
        "seconds": {"load": 1.0},
        "peak_memory_gib": 1.0,
        "versions": {"python": "3"},
    }
    written = {
        "standardize": {"sources": sources},
        "mix": {"sources": {"a": 1_000, "b": 2_000}, "removed": {"extra_in_base": 998}},
        "train": {**of_model, "rows_seen": 8, "tokens_seen": 9_000, "steps": 3},
        "baseline": of_model,
        "evaluate": {**of_model, "base_model": {"resolved": made[0].commit}},
    }
    ran = [every, [name for name in every if name not in ("standardize", "baseline")]]
    runs = {
        run: [Step(name, 1.5, 2**30) for name in of] for run, of in zip(("first", "larger"), ran, strict=True)
    }
    both = {"first": written, "larger": copy.deepcopy(written)}
    return Record(True, made, runs, both)


def test_what_has_to_come_out():
    seen = record()
    assert faults(ROOT, seen, SMALL) == []
    lines = seen.markdown()
    assert lines[0] == "| stage | first, s | larger, s | memory, GiB | of the GPU, GiB |"
    assert "| baseline | 1.5 |  | 1.00 |  |" in lines
    seen.written["larger"]["evaluate"]["device"] = "NVIDIA H100"
    assert "| evaluate | 1.5 | 1.5 | 1.00 | 1.0 |" in seen.markdown()
    seen.runs["larger"].append(Step("baseline"))
    seen.written["larger"]["mix"]["sources"]["b"] = 1_999
    seen.written["larger"]["mix"]["removed"]["extra_in_base"] = 12
    seen.written["larger"]["standardize"]["sources"][f"hf://datasets/{TOME}"]["rejects"] = 0
    seen.written["larger"]["evaluate"]["base_model"]["resolved"] = "d" * 40
    found = faults(ROOT, seen, SMALL)
    assert len(found) == 5, found
    assert found[0].startswith("larger: ran baseline,")


def test_the_scales_take_the_params_of_the_preset():
    """What --small changes are params that there are, and after them the train stage needs no GPU."""
    assert FULL.params == {} and FULL.config == {}
    values = load(ROOT / "params.yaml")
    for name, value in SMALL.params.items():
        *groups, leaf = name.split(".")
        part = values
        for group in groups:
            part = part[group]
        assert leaf in part, name
        part[leaf] = value
    assert section(values, "train", TrainParams).engine == "trl"


def test_machines_that_cannot_are_told_before(tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match="exists"):
        command.check_machine(tmp_path, SMALL)
    with pytest.raises(SystemExit, match="needed"):
        command.check_machine(tmp_path / "new", replace(SMALL, disk=10**18))
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="--small"):
        command.check_machine(tmp_path / "new", replace(FULL, disk=0))


def test_a_clone_without_git(tmp_path, monkeypatch):
    """A machine for computing may have none: then the tree is copied and committed by Dulwich."""
    (tmp_path / "tree" / ".dvc" / "cache").mkdir(parents=True)
    for name in ("params.yaml", ".dvc/cache/object", "left.out", ".gitignore"):
        (tmp_path / "tree" / name).write_text("left.out\n")
    monkeypatch.setattr(clone, "ROOT", tmp_path / "tree")
    monkeypatch.setattr(clone.shutil, "which", lambda name: None)
    clone.make(tmp_path / "clone")
    (tmp_path / "clone" / "params.yaml").write_text("changed")
    (tmp_path / "clone" / "new.txt").write_text("new")
    clone.commit(tmp_path / "clone", "More")
    listed = subprocess.run(
        ["git", "-C", str(tmp_path / "clone"), "ls-tree", "-r", "--name-only", "HEAD"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert listed.stdout.split() == [".gitignore", "new.txt", "params.yaml"]
    diff = ["git", "-C", str(tmp_path / "clone"), "diff", "HEAD~1", "--name-only"]
    changed = subprocess.run(diff, capture_output=True, text=True, check=True).stdout.split()
    assert changed == ["new.txt", "params.yaml"]


@pytest.mark.full
def test_the_small_rehearsal(tmp_path):
    command.main(["--small", "--work", str(tmp_path / "work")])
    seen = json.loads((tmp_path / "work" / "out" / "rehearsal.json").read_text())
    assert list(seen["runs"])[:2] == ["the preset", "data.size=3k"] and not seen["faults"]
