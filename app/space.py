"""The recipe chatbot on one GGUF file: the page and llama.cpp's server in one process, without torch.

This is what `make space` makes a Hugging Face Space of.
"""

import os
import sys
from pathlib import Path

from app import llama_cpp
from app.served import Server
from app.serving import serve
from sft.core.errors import UserError

ON_A_SPACE = "SPACE_ID"  # in the environment there: huggingface.co/docs/hub/spaces-overview


def main(file: Path, temperature: float) -> None:
    """Load the model and serve the page; there is nothing to fetch."""
    host = "0.0.0.0" if ON_A_SPACE in os.environ else None
    print("loading the model ...", flush=True)
    try:
        model = llama_cpp.serve(file)
        serve(Server(model.listening_address, temperature=temperature), host)
    except UserError as error:
        sys.exit(f"error: {error}")
