"""Does llama.cpp read a prompt as the tokens that the model was trained on?"""

import json
from pathlib import Path
from typing import Any

from sft.core.errors import UserError
from sft.core.files import read_json
from sft.export import tools
from sft.export.chat_turns import PROOFS
from sft.export.tools import ToolFailed
from sft.modeling.chat_template import TemplateRefusal, prompt_ids, render

# What tokenizers split differently: digits, runs of white space, contractions, scripts, symbols.
HARD = "1 23 456 7890 3.5½  x\n\n\n \t\t y\r\n 'll DON'T We've ------====\n 你好 كيف हिन्दी é\u0301 🦙🚀 ▁a"
TALKS = [*PROOFS, [{"role": "user", "content": HARD}]]


def check(file: Path, tokenizer: Any, reference: str) -> None:
    """Raise UserError unless llama.cpp makes our ids of a few conversations from the GGUF in `file`.

    Where the template prints BOS and the GGUF asks for it too, llama.cpp's server leaves one out.
    """
    texts, ours = [], []
    for messages in TALKS:
        try:
            texts.append(render(tokenizer, messages, add_generation_prompt=True))
        except TemplateRefusal:  # no system messages, for instance
            continue
        ours.append(prompt_ids(tokenizer, messages))
    for text, expected, found in zip(texts, ours, _llama_cpp(file, texts), strict=True):
        if found[:2] == [tokenizer.bos_token_id] * 2:
            del found[0]
        if found != expected:
            raise UserError(
                f"{reference}: llama.cpp makes other tokens of its prompts than training did, so its answers "
                f"would be worse: of {text!r} {found}, not {expected}. Choose: make export "
                "FORMATS='float32 16bit'"
            )


def _llama_cpp(file: Path, texts: list[str]) -> list[list[int]]:
    asked, told = file.with_suffix(".texts.json"), file.with_suffix(".ids.json")
    asked.write_text(json.dumps(texts), encoding="utf-8")
    try:
        tools.run("sft.export.tokenized", str(file), str(asked), str(told), writes=told)
        return read_json(told)
    except ToolFailed as error:
        raise UserError(f"{file.name}: llama.cpp cannot load it: {error}") from None
    finally:
        for path in (asked, told):
            path.unlink(missing_ok=True)
