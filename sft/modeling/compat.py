"""What the model's code uses of other packages beyond their public interfaces, in one place.

tests/modeling/test_compat.py touches each, and says what to look at when a new version has moved it.
"""

import inspect
from functools import cache
from typing import Any


def forget_quantization(model: Any) -> None:
    """Have transformers take a dequantized model for a plain one, which can be saved."""
    model.hf_quantizer = None
    del model.config.quantization_config


def split_digits_first(tokenizer: Any) -> None:
    """Have a tokenizer that transformers made of a GGUF split text as llama.cpp does for `smollm`.

    Each digit (Unicode N) is a piece of its own, before GPT-2's pattern splits the rest: llama-vocab.cpp of
    llama.cpp, LLAMA_VOCAB_PRE_TYPE_SMOLLM. transformers drops `tokenizer.ggml.pre`, and takes bytes that the
    vocabulary lacks for the unknown token; llama.cpp leaves them out.
    """
    from tokenizers import decoders, pre_tokenizers

    fast = tokenizer.backend_tokenizer
    fast.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    fast.decoder = decoders.ByteLevel()
    model = fast.model
    model.byte_fallback, model.fuse_unk, model.unk_token = False, False, None


@cache
def render_templates_in(environment: Any) -> None:
    """Have transformers render every chat template of this process in an environment instead of Jinja's."""
    from transformers.utils import chat_template_utils

    chat_template_utils.ImmutableSandboxedEnvironment = environment  # type: ignore[misc]
    chat_template_utils._compile_jinja_template.cache_clear()


def namespace_values(namespace: Any) -> dict[str, Any]:
    """Return what a namespace of Jinja's templates holds, which it gives by name only."""
    return object.__getattribute__(namespace, "_Namespace__attrs")


def is_lora(name: str) -> bool:
    """Tell by a module's full name whether it is a matrix of one of PEFT's LoRAs."""
    return ".lora_" in name


@cache
def varlen_asks_for_grouping() -> bool:
    """Tell whether PyTorch's varlen_attn groups heads only where it is asked to, by `enable_gqa`.

    torch 2.11 has no such argument and groups them unasked.
    """
    from torch.nn.attention.varlen import varlen_attn

    return "enable_gqa" in inspect.signature(varlen_attn).parameters
