"""A tiny GGUF file with random weights, and a tokenizer that llama.cpp and transformers both read."""

import string
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType, quants
from tokenizers import pre_tokenizers

CHATML = """{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"""
KINDS = {"Q8_0": LlamaFileType.MOSTLY_Q8_0, "F32": LlamaFileType.ALL_F32}


def tiny_model(path: Path, width: int = 64, kind: str = "Q8_0", context: int = 128) -> Path:
    """Write a random Llama of one layer, with a tokenizer of bytes and two merges and a chat template.

    It says letters, digits, blanks and <|im_end|>; `kind` is how the matrices are stored.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, "th", "he", "<|im_start|>", "<|im_end|>", "<|endoftext|>"]
    said = {*string.ascii_letters, *string.digits, "Ġ", "th", "he", "<|im_end|>"}
    writer = GGUFWriter(path, "llama")
    writer.add_file_type(KINDS[kind])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * (len(tokens) - 3) + [3] * 3)
    writer.add_token_merges(["t h", "h e"])
    writer.add_bos_token_id(len(tokens) - 3)
    writer.add_eos_token_id(len(tokens) - 2)
    writer.add_chat_template(CHATML)
    writer.add_vocab_size(len(tokens))
    writer.add_context_length(context)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(width)
    writer.add_block_count(1)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_rope_dimension_count(width // 2)
    writer.add_layer_norm_rms_eps(1e-5)
    draw = np.random.default_rng(0)
    stored = GGMLQuantizationType[kind]
    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down", "token_embd"):
        rows = len(tokens) if name == "token_embd" else width
        weights = draw.normal(size=(rows, width)).astype(np.float32)
        if name == "token_embd":
            weights[[place for place, token in enumerate(tokens) if token not in said]] = 0
        where = "" if name == "token_embd" else "blk.0."
        writer.add_tensor(f"{where}{name}.weight", quants.quantize(weights, stored), raw_dtype=stored)
    for name in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(width, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
