"""Exported files against the adapter: good ones pass, damaged ones fail; llama.cpp agrees with torch."""

import argparse
import json
import shutil
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest

from scripts import export_scores
from scripts.compat import folder_hash
from sft.core.errors import ParamError, UserError
from sft.core.files import write_json, write_parquet
from sft.data.evaluation_pool import EXAMPLES
from sft.export import formats, scoring, tools
from sft.export.export import Source, export
from tests.export.made_adapters import save_adapter, save_small

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not tools.FOLDER.exists(), reason="llama.cpp's tools: make install-export"),
]
MADE = (formats.FLOAT32, formats.F16, formats.Q8_0)
F16 = "gguf/small-sft-f16.gguf"
WORDS = ["salt", "flour", "butter", "water", "sugar", "onion", "garlic", "cheese", "basil", "carrot", "lemon"]
TASKS = ("recipe", "question")
END = 2  # <|im_end|>


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
    end_answers(base)
    shutil.rmtree(adapter)
    save_adapter(base, folder / "models" / "adapter")
    source = Source(base, folder / "models" / "adapter", "small-sft", "bfloat16", None)
    export(source, MADE, folder / "export", {"adapter": folder_hash(source.adapter)})
    write_parquet(folder / "data" / "holdout" / "evaluation.parquet", pool())
    told, ask = {}, scoring._told

    def asked(file, request):
        told[file.name] = (request, ask(file, request))
        return told[file.name][1]

    with mock.patch.object(scoring, "_told", asked):
        found = score(folder, values(base))
    return folder, base, found, told


def end_answers(base):
    """Make the token that ends a turn likelier, so that some answers end before their limit and some not."""
    from safetensors.torch import load_file, save_file

    file = base.path / "model.safetensors"
    weights = load_file(file)
    weights["model.embed_tokens.weight"][END] *= 6
    save_file(weights, file, metadata={"format": "pt"})


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


def test_llama_cpp_answers_and_ends_as_torch_does(whole, merged):
    """Each token of an answer is torch's likeliest, but for float16's rounding; so is what ended it."""
    request, told = whole[3]["small-sft-f16.gguf"]
    assert len(told["answers"]) == len(request["prompts"]) == 10
    lengths = set()
    for (prompt, most), (ids, ended) in zip(request["prompts"], told["answers"], strict=True):
        logits = logits_of(merged, [*prompt, *ids])[len(prompt) - 1 :]
        chosen = [*ids, END] if ended else ids
        short = [float(row.max() - row[token]) for row, token in zip(logits, chosen, strict=False)]
        assert max(short) < 0.1
        assert len(ids) == most or (ended and len(ids) < most)
        lengths.add(ended)
    assert lengths == {True, False}


def test_a_damaged_gguf_fails(damaged):
    """Its weights are perturbed; the file stays, and scores.json says what is wrong with it."""
    from gguf import GGUFReader

    folder, params = damaged
    reader = GGUFReader(folder / "export" / F16, "r+")
    weights = next(one for one in reader.tensors if one.name == "blk.0.ffn_down.weight").data
    weights[:] += np.random.default_rng(0).normal(0, 2, weights.shape).astype(weights.dtype)
    reader.data.flush()
    said = refused(folder, params, "f16")
    assert "small-sft-f16.gguf: it predicts the references" in said
    assert "the limit is 2%. Do not use it: export it again, or use a format of more bits" in said
    found = json.loads((folder / "export" / "scores.json").read_text())["files"]
    assert not found[f"export/{F16}"]["passed"] and found[f"export/{F16}"]["loss"] > 0.02
    assert found[f"export/{F16}"]["why"] in said
    assert (folder / "export" / F16).exists()


def test_a_file_that_llama_cpp_cannot_load_fails_and_the_others_are_scored(damaged):
    folder, params = damaged
    file = folder / "export" / F16
    file.write_bytes(file.read_bytes()[:100_000])
    said = refused(folder, params, "f16", "q8_0")
    assert "small-sft-f16.gguf: llama.cpp cannot run it" in said and "make export" in said
    found = json.loads((folder / "export" / "scores.json").read_text())["files"]
    assert [of["passed"] for of in found.values()] == [True, False]


def test_a_float32_merge_of_another_adapter_fails(damaged):
    """Though it may predict the references as well."""
    from safetensors.torch import load_file, save_file

    folder, params = damaged
    file = folder / "export" / "float32" / "model.safetensors"
    weights = load_file(file)
    weights["model.layers.1.mlp.down_proj.weight"].mul_(-1)
    save_file(weights, file, metadata={"format": "pt"})
    assert "greedy answers are not the adapter's, both in float32" in refused(folder, params, "float32")


def test_an_exported_tokenizer_that_makes_other_tokens_fails(damaged):
    folder, params = damaged
    template = folder / "export" / "float32" / "chat_template.jinja"
    template.write_text(template.read_text().replace("user", "human"))
    template.write_text("{{ 'Once. ' }}" + template.read_text())
    assert "makes other tokens of the task 'recipe'" in refused(folder, params, "float32")


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
    """Of three tokens in the middle, and of a text longer than what llama.cpp reads at once."""
    import torch

    ids = [1, 4093, 198, 314, 2606, 47, 2, 520, 9531] * 60
    places = [(4, 7), (500, 530)]
    request = {"threads": 1, "likelihoods": [(ids, *one) for one in places], "prompts": []}
    file = whole[0] / "export" / F16
    logits = logits_of(merged, ids)
    for nats, (start, stop) in zip(scoring._told(file, request)["nats"], places, strict=True):
        expected = torch.nn.functional.cross_entropy(
            logits[start - 1 : stop - 1], torch.tensor(ids[start:stop]), reduction="sum"
        )
        assert nats == pytest.approx(expected.item(), rel=2e-3)


def test_the_base_is_the_adapters(damaged):
    folder, params = damaged
    params["model"]["reference"] = str(folder / "export" / "float32")
    with pytest.raises(ParamError, match="was trained on"):
        score(folder, params)
