"""Quantizing a GGUF file by llama.cpp, in a process of its own: python -m sft.export.quantize IN OUT TYPE.

TYPE is llama.cpp's number of it (llama_ftype). In a process of its own, for where llama.cpp meets a fault it
aborts, and what it does it says on the standard output.
"""

import os
import sys


def main(source: str, target: str, kind: int) -> None:
    """Quantize `source` into `target`; the same file comes out whatever the number of threads."""
    from cyllama.llama.llama_cpp import LlamaModelQuantizeParams, model_quantize

    params = LlamaModelQuantizeParams()
    params.ftype = kind
    params.nthread = os.cpu_count() or 1
    try:
        model_quantize(source, target, params)
    except RuntimeError:  # which has a status only: llama.cpp has said what is wrong
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
