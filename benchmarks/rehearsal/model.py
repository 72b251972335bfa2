"""A repository like unsloth/Llama-3.2-3B-Instruct, with random weights: the same files, layout and tokens."""

import importlib.util
import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.material import llama_tokenizer
from sft.core.files import write_json

# The repository's config.json, in the form of the transformers that wrote it: rope_scaling, torch_dtype.
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 128000,
    "eos_token_id": [128001, 128008, 128009],
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 3072,
    "initializer_range": 0.02,
    "intermediate_size": 8192,
    "max_position_embeddings": 131072,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": 24,
    "num_hidden_layers": 28,
    "num_key_value_heads": 8,
    "pad_token_id": 128004,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {
        "factor": 32.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
    "rope_theta": 500000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.47.1",
    "unsloth_fixed": True,
    "use_cache": True,
    "vocab_size": 128256,
}
GENERATION: dict[str, Any] = {
    "bos_token_id": 128000,
    "do_sample": True,
    "eos_token_id": [128001, 128008, 128009],
    "max_length": 131072,
    "pad_token_id": 128004,
    "temperature": 0.6,
    "top_p": 0.9,
    "transformers_version": "4.47.1",
}
# One small enough for a processor; what differs is widths and the number of layers.
SMALL: dict[str, Any] = {
    "head_dim": 16,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
}
SHARD = "5GB"  # the 3B model's weights then come in two files, as on the hub
SEED = 0


def write(folder: Path, changed: dict[str, Any] | None = None) -> Any:
    """Write the repository's files; return the tokenizer. `changed` values of the config make another model.

    The weights are bfloat16: ones for the norms, else normal with the config's deviation, each tensor by a
    seed of its own, so they are the same on every machine. One shard at a time is held in memory.
    """
    config = {**CONFIG, **(changed or {})}
    folder.mkdir(parents=True)
    write_json(folder / "config.json", config)
    write_json(folder / "generation_config.json", GENERATION)
    tokenizer = llama_tokenizer()
    _write_tokenizer(folder, tokenizer)
    _write_weights(folder, config)
    return tokenizer


def _write_tokenizer(folder: Path, tokenizer: Any) -> None:
    """Write the tokenizer in the hub's three files, the chat template within its config.

    The template is Llama 3.2's own, of which TRL ships a copy; it prints today's date unless it is given one.
    As on the hub the tokenizer adds a BOS by itself, and the template prints one too.
    """
    from tokenizers import processors

    bos = tokenizer.bos_token
    fast = tokenizer.backend_tokenizer
    fast.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single=f"{bos} $A",
                pair=f"{bos} $A {bos} $B:1",
                special_tokens=[(bos, tokenizer.bos_token_id)],
            ),
        ]
    )
    fast.save(str(folder / "tokenizer.json"))
    spec = importlib.util.find_spec("trl")
    assert spec and spec.submodule_search_locations
    template = Path(spec.submodule_search_locations[0], "chat_templates", "llama3_2.jinja")
    special = {
        "bos_token": bos,
        "eos_token": tokenizer.eos_token,
        "pad_token": tokenizer.pad_token,
    }
    plain = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    added = sorted(fast.get_added_tokens_decoder().items())
    write_json(folder / "special_tokens_map.json", special)
    write_json(
        folder / "tokenizer_config.json",
        {
            "added_tokens_decoder": {str(id): {"content": token.content, **plain} for id, token in added},
            **special,
            "chat_template": template.read_text(encoding="utf-8"),
            "clean_up_tokenization_spaces": True,
            "model_input_names": ["input_ids", "attention_mask"],
            "model_max_length": CONFIG["max_position_embeddings"],
            "padding_side": "left",
            "tokenizer_class": "PreTrainedTokenizerFast",
        },
    )


def _write_weights(folder: Path, config: dict[str, Any]) -> None:
    import torch
    from huggingface_hub import split_torch_state_dict_into_shards
    from safetensors.torch import save_file
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), dtype=torch.bfloat16)
    shapes = {name: value for name, value in model.state_dict().items() if name != "lm_head.weight"}  # tied
    plan = split_torch_state_dict_into_shards(shapes, max_shard_size=SHARD)

    def drawn(name: str) -> torch.Tensor:
        tensor = torch.empty(shapes[name].shape, dtype=torch.bfloat16)
        if tensor.dim() == 1:
            return tensor.fill_(1.0)
        generator = torch.Generator().manual_seed(SEED + zlib.crc32(name.encode()))
        return tensor.normal_(0.0, config["initializer_range"], generator=generator)

    # One of torch's generators works on one core; each tensor has its own.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for file, names in plan.filename_to_tensors.items():
            tensors = dict(zip(names, pool.map(drawn, names), strict=True))
            save_file(tensors, folder / file, metadata={"format": "pt"})
    if plan.is_sharded:
        index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
        write_json(folder / "model.safetensors.index.json", index)
