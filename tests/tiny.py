"""Tiny models and tables that the tests make for themselves.

What loads torch is imported where it is used: many tests, and processes that they start, do without.
"""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from sft.core import shards
from sft.core.row_schema import MESSAGES, standard_table, take_rows
from sft.modeling.loading import resolve
from sft.tasks.task import Task, TaskParams, tasks_of

TEMPLATE = """{%- for message in messages %}
{{- '<|start|>' + message.role + '\n' + message.content + '<|eot|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start|>assistant\n' }}{%- endif %}"""


def save_tokenizer(folder, control, template=TEMPLATE, merges=(), **special):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *map("".join, merges)]
    fast = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, list(merges)))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    fast.add_special_tokens(["<|start|>", "<|eot|>", *control])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=fast, chat_template=template, **special)
    tokenizer.save_pretrained(folder)
    return len(tokenizer)


def save_model(folder, control=("<|endoftext|>",), spread: float = 0.02, hidden: int = 16, **special):
    """Save a random Llama of 2 layers and a byte tokenizer whose eos is not its end of turn.

    `spread` is the standard deviation of the weights: with a larger one the model is surer of its tokens.
    `hidden` is its width.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    vocabulary = save_tokenizer(folder, control, **{"eos_token": "<|endoftext|>", **special})
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=2,
        num_attention_heads=2,
        initializer_range=spread,
        eos_token_id=[7, 9],
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return resolve(str(folder))


def dialogue(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def table(conversations: list[list[dict[str, str]]], source: str = "made", **columns: Any) -> pa.Table:
    return standard_table(pa.array(conversations, MESSAGES), source, **columns)


def task(name: str, metrics: tuple[str, ...] = (), **values: Any) -> Task:
    """Make a task; `metrics` are those beyond the common ones."""
    defaults = {"source": "source", "holdout": 0.1, "max_new_tokens": 8}
    return tasks_of({name: TaskParams(**{**defaults, **values}, metrics=list(metrics))})[0]


def save_shards(folder: Path | str, rows: pa.Table, bits: int = 0) -> None:
    """Write rows as 2^bits shards, as the stages do."""
    rows = take_rows(rows, shards.by_id(rows["id"]))
    numbers = shards.number_of(shards.keys(rows["id"])[0], bits)
    for number in range(1 << bits):
        shards.write(shards.path_of(folder, number), rows.filter(pa.array(numbers == number)))


def save_mix(folder: Path | str, rows: pa.Table, kinds: dict[str, int], bits: int = 0) -> None:
    """Write a mix; `kinds` has the rows of each kind that the largest mix has."""
    save_shards(folder, rows.replace_schema_metadata({"kinds": json.dumps(kinds)}), bits)


def folder_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
