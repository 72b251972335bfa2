"""What the export uses of other packages beyond their public interfaces, in one place.

tests/export/test_compat.py touches each, and says what to look at when a new version has moved it.
"""

import ast
from functools import cache
from pathlib import Path
from typing import Any


@cache
def known_architectures(tools: Path) -> frozenset[str]:
    """Return the architectures, as config.json names them, that llama.cpp's converter knows.

    Its package `conversion` maps them to modules in its __init__.py. That is read, not imported: it would
    import torch and transformers, and needs its own gguf.
    """
    source = (tools / "conversion" / "__init__.py").read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "TEXT_MODEL_MAP" and node.value:
            return frozenset(ast.literal_eval(node.value))
    raise LookupError("TEXT_MODEL_MAP")


def llama_model(path: str) -> Any:
    """Load a GGUF file into llama.cpp; raise ValueError or FileNotFoundError where it cannot.

    cyllama 0.2.18 looks for the width of the logits in an attribute of the model that it does not give it.
    """
    from cyllama.llama import llama_cpp

    class Model(llama_cpp.LlamaModel):  # type: ignore[misc]
        @property
        def n_vocab(self) -> int:
            return int(self.get_vocab().n_vocab)

    llama_cpp.disable_logging()
    return Model(path, verbose=False)
