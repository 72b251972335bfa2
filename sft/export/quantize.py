"""Quantizing a GGUF file by llama.cpp, in a process of its own: python -m sft.export.quantize IN OUT TYPE.

TYPE is llama.cpp's number of it (llama_ftype). llama.cpp writes what it does to the standard output, and would take
this process with it where it aborts.
"""

import os
import sys


def main(source: str, target: str, kind: int) -> None:
    """Quantize `source` into `target`; the same file comes out whatever the number of threads."""
    from cyllama.llama.llama_cpp import LlamaModelQuantizeParams, model_quantize

    params = LlamaModelQuantizeParams()
    params.ftype = kind
    params.nthread = os.cpu_count() or 1
    model_quantize(source, target, params)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
