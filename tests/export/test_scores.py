"""Exported files against the adapter: good ones pass, damaged ones fail; llama.cpp agrees with torch."""

import argparse
import json
import re
import shutil
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest

from scripts import export_scores
from scripts.compat import folder_hash
from sft.core.errors import ParamError, UserError
from sft.core.files import write_json, write_parquet
from sft.core.params import mapping, section
from sft.data.evaluation_pool import EXAMPLES
from sft.evaluation.all_tasks import Model
from sft.evaluation.evaluate import EvaluateParams
from sft.export import formats, gguf_scoring, losses, scoring
from sft.export.export import Source, export
from sft.modeling.loading import load_tokenizer, resolve
from sft.tasks.task import TaskParams, tasks_of
from tests.export.made_adapters import save_adapter, save_small
from tests.export.needed import needs_tools

pytestmark = [pytest.mark.long, needs_tools]
MADE = (formats.FLOAT32, formats.F16, formats.Q8_0)
F16, Q8_0 = "gguf/small-sft-f16.gguf", "gguf/small-sft-q8_0.gguf"
WORDS = ["salt", "flour", "butter", "water", "sugar", "onion", "garlic", "cheese", "basil", "carrot", "lemon"]
TASKS = ("recipe", "question")


def values(base, **model):
    task = {"source": "made", "holdout": 1.0, "max_new_tokens": 6, "metrics": []}
    return {
        "model": {"reference": str(base.path), "dtype": "float32", "load_in_4bit": False, **model},
        "tasks": {name: dict(task) for name in TASKS},
        "evaluate": {
            "examples": 2,
            "likelihood_examples": 3,
            "runs": 2,
            "seed": 1,
            "temperature": 0.7,
            "batch_size": 8,
            "devices": 1,
        },
    }


def pool():
    """Twenty examples of each task."""
    rows = [
        {
            "task": task,
            "id": f"{task}{n}",
            "item": f"{task}{n}",
            "prompt": [{"role": "user", "content": f"{n} cups of {WORDS[n % 11]}, {WORDS[n % 5]}?"}],
            "references": [f"Mix the {WORDS[n % 7]} with {WORDS[(n + 3) % 11]}."],
        }
        for task in TASKS
        for n in range(20)
    ]
    return pa.Table.from_pylist(rows, schema=EXAMPLES)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Export a small adapter and score that: return folder, base, scores.json, llama.cpp's results."""
    folder = tmp_path_factory.mktemp("scored")
    base, adapter = save_small(folder)
    shutil.rmtree(adapter)
    save_adapter(base, folder / "models" / "adapter")
    source = Source(base, folder / "models" / "adapter", "small-sft", "bfloat16", None)
    export(source, MADE, folder / "export", {"adapter": folder_hash(source.adapter)})
    write_parquet(folder / "data" / "holdout" / "evaluation.parquet", pool())
    told, ask = {}, gguf_scoring.told

    def asked(file, request):
        told[file.name] = (request, ask(file, request))
        return told[file.name][1]

    with mock.patch.object(gguf_scoring, "told", asked):
        found = score(folder, values(base))
    return folder, base, found, told


def score(folder, params, *names):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        export_scores.main(params, argparse.Namespace(formats=list(names)))
    return json.loads((folder / "export" / "scores.json").read_text())


def refused(folder, params, *names):
    with pytest.raises(UserError) as error:
        score(folder, params, *names)
    return str(error.value)


@pytest.fixture
def damaged(whole, tmp_path):
    """Copy the export, for a test to damage."""
    shutil.copytree(whole[0], tmp_path / "copy")
    return tmp_path / "copy", values(whole[1])


def test_good_files_pass(whole):
    """The float32 merge is the adapter; f16 and q8_0 are near it, in this order of nearness."""
    files = whole[2]["files"]
    assert list(files) == ["export/float32", f"export/{F16}", "export/gguf/small-sft-q8_0.gguf"]
    assert all(of["passed"] and "why" not in of for of in files.values())
    merged, f16, q8_0 = files.values()
    assert merged["same_answers"] == merged["same_answers_in_float32"] == whole[2]["answers"] == 10
    assert "same_answers_in_float32" not in f16
    assert abs(merged["loss"]) < 1e-5 < abs(q8_0["loss"]) < 0.02
    assert whole[2]["likelihoods"] == dict.fromkeys(TASKS, 16)
    for of in (f16, q8_0):
        low, high = of["loss_interval"]
        assert low <= of["loss"] <= high
        assert list(of["bits_per_byte"]) == ["average", *TASKS]
        assert of["bits_per_byte"]["recipe"]["interval"]
        assert list(of["rouge1"]) == ["all answers"]


def test_llama_cpp_gives_the_likelihoods_of_torch(whole):
    """Of the float16 file within 1e-3 bits a byte, on each task."""
    found = whole[2]
    f16 = found["files"][f"export/{F16}"]["bits_per_byte"]
    for task in ("average", *TASKS):
        assert f16[task]["value"] == pytest.approx(found["adapter"]["bits_per_byte"][task], abs=1e-3)
        assert abs(f16[task]["difference"]) < 1e-3
    assert found["adapter"]["bits_per_byte"]["average"] > 1


@pytest.fixture(scope="module")
def merged(whole):
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(whole[0] / "export" / "float32", dtype=torch.float32)


def logits_of(model, ids):
    import torch

    with torch.inference_mode():
        return model(torch.tensor([ids])).logits[0]


def test_llama_cpp_answers_as_torch_does(whole, merged):
    """Each token of an answer is torch's likeliest, but for float16's rounding."""
    request, told = whole[3]["small-sft-f16.gguf"]
    assert len(told["answers"]) == len(request["prompts"]) == 10
    for (prompt, most), (ids, end) in zip(request["prompts"], told["answers"], strict=True):
        logits = logits_of(merged, [*prompt, *ids])[len(prompt) - 1 :]
        short = [float(row.max() - row[token]) for row, token in zip(logits, ids, strict=False)]
        assert len(ids) == most and end is None
        assert max(short) < 0.1 < float(logits[0].max() - logits[0].mean())


def test_an_answer_ends_at_the_files_own_token(whole, tmp_path):
    """Another eos is written into the file: one that the answer holds."""
    from gguf import GGUFReader

    file = shutil.copyfile(whole[0] / "export" / F16, tmp_path / "copy.gguf")
    request = {**whole[3]["small-sft-f16.gguf"][0], "likelihoods": []}
    request["prompts"] = request["prompts"][:1]
    [(ids, end)] = gguf_scoring.told(file, request)["answers"]
    assert (len(ids), end) == (6, None)
    reader = GGUFReader(file, "r+")
    field = reader.fields["tokenizer.ggml.eos_token_id"]
    field.parts[field.data[0]][0] = ids[3]
    reader.data.flush()
    assert gguf_scoring.told(file, request)["answers"] == [[ids[: ids.index(ids[3])], ids[3]]]


def test_damaged_files_fail_and_stay(whole, damaged):
    """A GGUF with other weights, one cut short, and a merge with other weights: each has its sentence."""
    from gguf import GGUFReader
    from safetensors.torch import load_file, save_file

    folder, params = damaged
    reader = GGUFReader(folder / "export" / F16, "r+")
    weights = next(one for one in reader.tensors if one.name == "blk.0.ffn_down.weight").data
    weights[:] += np.random.default_rng(0).normal(0, 2, weights.shape).astype(weights.dtype)
    reader.data.flush()
    with (folder / "export" / Q8_0).open("r+b") as file:
        file.truncate(100_000)
    merged = folder / "export" / "float32" / "model.safetensors"
    tensors = load_file(merged)
    tensors["model.layers.1.mlp.down_proj.weight"].mul_(-1)
    save_file(tensors, merged, metadata={"format": "pt"})

    said = refused(folder, params)
    found = json.loads((folder / "export" / "scores.json").read_text())["files"]
    assert {name: of["passed"] for name, of in found.items()} == dict.fromkeys(whole[2]["files"], False)
    assert all(of["why"] in said for of in found.values())
    of_merge, of_f16, of_q8_0 = (found[f"export/{name}"]["why"] for name in ("float32", F16, Q8_0))
    assert re.match(
        r"export/float32: \d+ of 10 greedy answers are not the adapter's, both in float32", of_merge
    )
    assert re.match(r"export/gguf/small-sft-f16.gguf: it predicts the references [\d.]+% worse", of_f16)
    assert "the limit is 2%. Do not use it: export it again, or use a format of more bits" in of_f16
    assert of_q8_0.startswith("export/gguf/small-sft-q8_0.gguf: llama.cpp cannot run it: ")
    assert of_q8_0.endswith("Export it again: make export")
    assert found[f"export/{F16}"]["loss"] > 0.02
    assert all((folder / name).exists() for name in found)


def test_an_exported_tokenizer_that_makes_other_tokens(damaged):
    folder, params = damaged
    template = folder / "export" / "float32" / "chat_template.jinja"
    template.write_text("{{ 'Once. ' }}" + template.read_text())
    base = resolve(params["model"]["reference"])
    tokenizer = load_tokenizer(base)
    tasks = tasks_of(mapping(params, "tasks", TaskParams))
    on = scoring.examples(pool(), tasks, section(params, "evaluate", EvaluateParams), tokenizer, base)
    with pytest.raises(UserError, match="makes other tokens of the task 'recipe' than the adapter's"):
        export_scores.score_merged(folder / "export" / "float32", on)


def test_what_cannot_be_scored(damaged):
    folder, params = damaged
    assert "q4_k_m is not exported there. Run: make export FORMATS=q4_k_m" in refused(
        folder, params, "q4_k_m"
    )
    record = folder / "export" / "export.json"
    made = json.loads(record.read_text())
    write_json(record, {**made, "adapter": "another"})
    assert "made of another adapter than models/adapter is now" in refused(folder, params)
    record.unlink()
    assert "nothing is exported there. Run: make export" in refused(folder, params)


def test_a_likelihood_by_hand(whole, merged):
    """Of tokens in the middle of texts, one of which is longer than what llama.cpp reads at once."""
    import torch

    ids = [1, 4093, 198, 314, 2606, 47, 2, 520, 9531] * 60
    other = [*ids[:5], *reversed(ids)]
    # What a text has in common with the one before is in memory, and is not read again.
    lots = [(ids, 4, 7), (ids, 500, 530), (other, 20, 40), (other, 4, 7), (ids, 4, 7)]
    request = {"threads": 1, "likelihoods": lots, "prompts": []}
    found = gguf_scoring.told(whole[0] / "export" / F16, request)["nats"]
    logits = {len(text): logits_of(merged, text) for text in (ids, other)}
    for nats, (text, start, stop) in zip(found, lots, strict=True):
        expected = torch.nn.functional.cross_entropy(
            logits[len(text)][start - 1 : stop - 1], torch.tensor(text[start:stop]), reduction="sum"
        )
        assert nats == pytest.approx(expected.item(), rel=2e-3)


def test_the_base_is_the_adapters(damaged):
    folder, params = damaged
    params["model"]["reference"] = str(folder / "export" / "float32")
    with pytest.raises(ParamError, match="was trained on"):
        score(folder, params)


def test_another_format_scored_alone_keeps_the_rest(whole, damaged, capsys):
    """They stay while what they were compared with is the same; else they go, and that is said."""
    folder, params = damaged
    path = folder / "export" / "scores.json"
    assert list(score(folder, params, "q8_0")["files"]) == [
        "export/float32",
        f"export/{F16}",
        f"export/{Q8_0}",
    ]
    now, before = json.loads(path.read_text()), whole[2]
    assert {**now, "files": 0} == {**before, "files": 0}
    assert {**now["files"][f"export/{Q8_0}"], "seconds": 0} == {
        **before["files"][f"export/{Q8_0}"],
        "seconds": 0,
    }
    assert now["files"]["export/float32"] == before["files"]["export/float32"]
    assert "left out" not in capsys.readouterr().out

    write_json(path, {**now, "adapter": {**now["adapter"], "dtype": "bfloat16"}})
    assert list(score(folder, params, "q8_0")["files"]) == [f"export/{Q8_0}"]
    said = capsys.readouterr().out
    assert f"left out of export/scores.json: export/float32, export/{F16}: what they were" in said


@pytest.fixture(scope="module")
def own_answers(whole, merged):
    """Return the merge as a model, the examples, and its greedy answers."""
    base = resolve(str(whole[0] / "export" / "float32"))
    tokenizer, params = load_tokenizer(base), values(base)
    tasks = tasks_of(mapping(params, "tasks", TaskParams))
    on = scoring.examples(pool(), tasks, section(params, "evaluate", EvaluateParams), tokenizer, base)
    model = Model(merged, tokenizer, [tokenizer.eos_token_id], base)
    return model, on, scoring._greedy(model, on)


def test_how_far_an_answer_is_from_the_models_own(own_answers):
    """Nothing, but for rounding; of another token, or another end, what its logit lacks to the likeliest."""
    model, on, answers = own_answers
    assert max(scoring.behind(model, on, answers)) < losses.TIE
    prompt, first = on.prompts["recipe"][0], answers[0]
    rows = logits_of(model.model, [*prompt.ids, *first.ids[:3]])[len(prompt.ids) - 1 :]
    other = int(rows[3].argmin())
    end = model.stop_ids[0]
    turned = [scoring.Answered([*first.ids[:3], other], None), scoring.Answered(first.ids[:3], end)]
    found = scoring.behind(model, on, [turned[0], *answers[1:]])
    assert found[0] == pytest.approx(float(rows[3].max() - rows[3][other]), rel=1e-4)
    assert max(found[1:]) < losses.TIE
    lacking = scoring.behind(model, on, [turned[1], *answers[1:]])[0]
    assert lacking == pytest.approx(float(rows[3].max() - rows[3][end]), rel=1e-4)


def test_a_tie_is_no_fault(own_answers):
    """Where two tokens are as likely but for float32's rounding, either is the adapter's answer."""
    model, on, answers = own_answers
    nats = scoring._nats(model, on.lots)
    merge = scoring.scored(model.tokenizer, on, nats, answers)
    gaps = [0.0] * len(answers)
    tied = losses.loss("float32", "float32", merge, merge, [losses.TIE / 2, *gaps[1:]])
    assert tied.fault is None and (tied.differing, tied.ties) == (0, 1)
    assert losses.as_json(tied)["same_answers_in_float32"] == len(answers)
    wrong = losses.loss("float32", "float32", merge, merge, [losses.TIE * 2, *gaps[1:]])
    assert wrong.fault and wrong.fault.startswith("float32: 1 of 10 greedy answers are not the adapter's")
    assert losses.loss("x", "f16", merge, merge).fault is None


def test_greedy_answers_are_those_of_the_stage(own_answers):
    from sft.core.kept_results import KeptResults
    from sft.core.provenance import Clock
    from sft.evaluation.all_tasks import answer_all

    model, on, answers = own_answers
    answered = answer_all(model, on.tasks, on.rows, on.params, Clock(), KeptResults())
    texts = [given.text for pairs in answered.values() for _, of in pairs for given in of]
    assert scoring.scored(model.tokenizer, on, [1.0] * len(on.lots), answers).answers == texts
