"""What the export uses of llama.cpp's tools beyond their public interfaces is where it is looked for.

A test that fails after an update says what to look at in the new version.
"""

import os
import subprocess
import sys

from sft.export import compat, gguf_files, tools
from tests.export.needed import needs_tools

LLAMA_MODEL = """
from cyllama.llama.llama_cpp import LlamaContext, LlamaModel
assert not hasattr(LlamaModel, "n_vocab"), "cyllama has it now: compat.llama_model needs no class"
for name in ("decode", "get_logits_ith", "memory_seq_rm"):
    assert hasattr(LlamaContext, name), f"sft/export/llama_cpp.py uses LlamaContext.{name}"
"""


@needs_tools
def test_the_architectures_that_the_converter_knows():
    look = "convert_hf_to_gguf's conversion/__init__.py: where does it name the architectures that it knows?"
    known = compat.known_architectures(tools.FOLDER)
    assert {"LlamaForCausalLM", "Qwen3ForCausalLM", "Gemma3ForCausalLM"} <= known, look


@needs_tools
def test_what_the_converter_says_of_a_tokenizer_that_it_does_not_know():
    look = "convert_hf_to_gguf's conversion/base.py, get_vocab_base_pre: what does it raise?"
    assert gguf_files.UNKNOWN_SPLITTING in (tools.FOLDER / "conversion" / "base.py").read_text("utf-8"), look


@needs_tools
def test_what_cyllama_lacks():
    environment = {**os.environ, "PYTHONPATH": str(tools.FOLDER)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", LLAMA_MODEL], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
