"""The first import of transformers, which is most of what a stage with a model takes to start."""

import gc
import sys


def import_transformers() -> None:
    """Import what loads a model, without looking for garbage.

    The import makes a million objects, with torch's, and all of them stay. Python's garbage collector looks
    at them again and again, and at each full collection later. So it is off meanwhile, and afterwards passes
    them by; only at the first import, when no model is there yet that could become garbage.
    """
    if "transformers" in sys.modules:
        return
    was_on = gc.isenabled()
    gc.disable()
    try:
        from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: F401

        gc.freeze()
    finally:
        if was_on:
            gc.enable()
