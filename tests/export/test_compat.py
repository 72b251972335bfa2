"""What a new version of cyllama may have moved: see sft/export/compat.py."""

import os
import subprocess
import sys

import pytest

from sft.export import tools

LOOK = """
from cyllama.llama.llama_cpp import LlamaContext, LlamaModel
assert not hasattr(LlamaModel, "n_vocab"), "cyllama has it now: compat.llama_model needs no class"
for name in ("decode", "get_logits_ith", "memory_seq_rm"):
    assert hasattr(LlamaContext, name), f"sft/export/llama_cpp.py uses LlamaContext.{name}"
"""


@pytest.mark.skipif(not tools.FOLDER.exists(), reason="llama.cpp's tools: make install-export")
def test_what_cyllama_lacks():
    environment = {**os.environ, "PYTHONPATH": str(tools.FOLDER)}
    done = subprocess.run([sys.executable, "-P", "-c", LOOK], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
