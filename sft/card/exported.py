"""The card of what was exported from an adapter: merged weights, or GGUF files."""

import re
from collections.abc import Sequence

# The folders of an export, and the library that the hub is told to load them by.
FOLDERS = {"float32": "transformers", "bfloat16": "transformers", "float16": "transformers", "gguf": "gguf"}
_USE = re.compile(r"^## Use\n.*?(?=^## )", re.MULTILINE | re.DOTALL)
_TITLE = re.compile(r"^# LoRA adapter of (.*)$", re.MULTILINE)

_MERGED = """\
## Use

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("ORG/NAME")  # this repository, or a folder with its files
model = AutoModelForCausalLM.from_pretrained("ORG/NAME", dtype="{dtype}")
```

"""
_GGUF = """\
## Use

With llama.cpp, or with Ollama by the Modelfile, which has the template and the stop tokens of training:

```
llama-server --model {name}
ollama create my-model --file Modelfile
```

"""
_GGUF_ALONE = """\
## Use

With llama.cpp, whose server takes the chat template of training from the file. Not with Ollama: its template
language cannot express it, and with the one that it guesses the model would read other prompts.

```
llama-server --jinja --model {name}
```

"""


def card_of_export(card: str, folder: str, files: Sequence[str]) -> str:
    """Return an adapter's card as that of an export in `folder`, one of FOLDERS, which has these `files`.

    The scores stay in the text, as the adapter's; in the header, which tells them of the files, they do not.
    """
    from huggingface_hub import ModelCard

    gguf = folder == "gguf"
    made = ModelCard(card)
    made.data["library_name"] = FOLDERS[folder]
    if made.data.get("base_model_relation"):
        made.data["base_model_relation"] = "finetune"
    made.data["eval_results"] = made.data["model_name"] = None
    made.data["tags"] = [tag for tag in made.data.get("tags") or [] if tag != "lora"] + (
        ["gguf"] if gguf else []
    )
    names = [name for name in files if name.endswith(".gguf")]
    of_gguf = _GGUF if "Modelfile" in files else _GGUF_ALONE
    use = of_gguf.format(name=names[0] if names else "FILE.gguf") if gguf else _MERGED.format(dtype=folder)
    text = _USE.sub(lambda _: use, made.text, count=1)
    what = "GGUF files" if gguf else f"The merged weights in {folder}"
    note = (
        f"{what}, made from the LoRA adapter that this card describes. The scores below are the adapter's; "
        "those of these files, where they were measured, are in `scores.json`."
    )
    made.text = _TITLE.sub(lambda found: f"# {found[1]}, fine-tuned\n\n{note}", text, count=1)
    return f"{made.content.strip()}\n"
