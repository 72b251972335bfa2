"""Token ids by llama.cpp, in a process of its own: python -m sft.export.tokenized GGUF TEXTS IDS.

TEXTS is a JSON file with a list of texts; their ids, with BOS where the GGUF asks for it, are written to IDS.
"""

import json
import sys
from pathlib import Path


def main(model: str, texts: str, ids: str) -> None:
    """Tokenize the texts; control tokens in them are taken for such."""
    from cyllama.llama.llama_cpp import LlamaModel

    loaded = LlamaModel(model, verbose=False)  # of the vocabulary alone cyllama cannot load a file
    vocabulary = loaded.get_vocab()
    found = [vocabulary.tokenize(text, True, True) for text in json.loads(Path(texts).read_text("utf-8"))]
    Path(ids).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
