"""A GGUF file on the held-out examples, as its users run it: by llama.cpp.

llama.cpp gets the token ids that the adapter gets: that it makes the same of a prompt, the export has
checked.
"""

import tempfile
from pathlib import Path
from typing import Any

from sft.core.errors import UserError
from sft.core.files import read_json, write_json
from sft.export import tools
from sft.export.scoring import Answered, Examples, Scored, scored


def asked(on: Examples, threads: int) -> dict[str, Any]:
    """Return what is asked of every GGUF file: see sft/export/llama_cpp.py."""
    return {
        "threads": threads,
        "likelihoods": [(one.ids, one.counted.start, one.counted.stop) for one in on.lots],
        "prompts": [
            (prompt.ids, task.max_new_tokens) for task in on.tasks for prompt in on.prompts[task.name]
        ],
    }


def told(file: Path, request: dict[str, Any]) -> Any:
    """Have llama.cpp answer what `asked` asks; raise UserError where it cannot run the file."""
    with tempfile.TemporaryDirectory() as folder:
        question, answer = Path(folder) / "asked.json", Path(folder) / "told.json"
        write_json(question, request)
        try:
            tools.run("sft.export.llama_cpp", str(file.resolve()), str(question), str(answer), writes=answer)
        except tools.ToolFailed as error:
            raise UserError(
                f"{file}: llama.cpp cannot run it: {error}. Export it again: make export"
            ) from None
        return read_json(answer)


def by_llama_cpp(answer: Any, tokenizer: Any, on: Examples) -> Scored:
    """Score what llama.cpp has `told`."""
    return scored(tokenizer, on, answer["nats"], [Answered(ids, end) for ids, end in answer["answers"]])
