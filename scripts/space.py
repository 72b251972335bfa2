"""The chatbot as a folder that is a Hugging Face Space, and runs anywhere: `make space`.

    python -m scripts.space [--gguf FILE]

Writes space/: a page, llama.cpp as a Python package, and a GGUF file; what it needs is installed from its own
requirements.txt, neither torch nor this repository is, and nothing is fetched when it starts. docs/space.md.
"""

import argparse
import json
import re
import shutil
import sys
from modulefinder import ModuleFinder
from pathlib import Path

from sft.core.errors import UserError
from sft.core.files import replacing, write_text
from sft.core.params import load, section
from sft.evaluation.evaluate import EvaluateParams
from sft.modeling import gguf_header
from stages.cli import PARAMS, described

ROOT = Path(__file__).resolve().parent.parent
SPACE, EXPORTED, CARD = Path("space"), Path("export/gguf"), Path("models/README.md")
ENTRY = "app/space.py"
DATA = ("app/page.css", "app/head.html", "LICENSE")
PINS = "constraints-space.txt"
PYTHON = "3.11"  # that of the pins
MAIN = '''\
"""The recipe chatbot: https://huggingface.co/docs/hub/spaces-sdks-gradio runs this file."""

from pathlib import Path

from app.space import main

main(Path(__file__).with_name({file}), temperature={temperature})
'''
TEXT = """
# Recipe chatbot

Ingredients in, a recipe out. `{file}` answers, a small language model that was fine-tuned on recipes, by
llama.cpp on the processor. It is no cook and no dietician: check what it says before you eat it.

The same on any machine with Python {python}, without a network once it is installed:

```
pip install -r requirements.txt
python main.py
```

The code is under the Apache-2.0 licence (LICENSE). The model has the licences of its base model and of its
training data.
"""


def main(gguf: Path | None = None, folder: Path = SPACE) -> None:
    """Write the folder, which is replaced as a whole, and say how to try it and how to publish it.

    Raises UserError where there is no GGUF file, or the folder holds something else than a Space of this
    command's.
    """
    file = gguf or _exported()
    gguf_header.check(file, "Make one: make export")
    temperature = section(load(PARAMS), "evaluate", EvaluateParams).temperature
    if folder.exists() and ((folder / ".git").exists() or not (folder / ENTRY).exists()):
        raise UserError(
            f"{folder}: holds something else than `make space` wrote. Move it away, then run again."
        )
    with replacing(folder) as temporary:
        for source in [*modules(), *DATA]:
            target = temporary / source
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / source, target)
        shutil.copyfile(file, temporary / file.name)
        write_text(temporary / "main.py", MAIN.format(file=json.dumps(file.name), temperature=temperature))
        shutil.copyfile(ROOT / PINS, temporary / "requirements.txt")
        write_text(temporary / "README.md", readme(file.name))
        write_text(temporary / "packages.txt", "libgomp1\n")  # Debian's, which llama.cpp needs
        # As the hub takes files of more than 10 MB, where they come by git push.
        write_text(temporary / ".gitattributes", "*.gguf filter=lfs diff=lfs merge=lfs -text\n")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder}/: {size / 1e6:,.0f} MB, with {file}. To try it in an environment of its own:")
    print(f"  python -m venv /tmp/space && /tmp/space/bin/pip install -r {folder}/requirements.txt")
    print(f"  /tmp/space/bin/python {folder}/main.py")
    print(f"To publish it: hf upload ORG/NAME {folder} --repo-type space")


def modules() -> list[str]:
    """Return the files of this repository that the Space's entry imports, wherever in a file, sorted."""
    finder = ModuleFinder(path=[str(ROOT)])
    finder.run_script(str(ROOT / ENTRY))
    files = {getattr(module, "__file__", None) for module in finder.modules.values()} - {None}
    return sorted(Path(file).relative_to(ROOT).as_posix() for file in files if file)


def readme(file: str) -> str:
    """Return the Space's README with the header by which the hub builds it."""
    from huggingface_hub import ModelCard, SpaceCardData

    (gradio,) = re.findall(r"^gradio==(\S+)", (ROOT / PINS).read_text(encoding="utf-8"), re.MULTILINE)
    header = SpaceCardData(
        title="Recipe chatbot",
        emoji="\N{POT OF FOOD}",
        colorFrom="red",
        colorTo="yellow",
        sdk="gradio",
        sdk_version=gradio,
        python_version=PYTHON,
        app_file="main.py",
        suggested_hardware="cpu-basic",
        license=(ModelCard.load(CARD).data.license if CARD.exists() else None) or "other",
        short_description="Ingredients in, a recipe out",
    )
    return f"---\n{header.to_yaml()}\n---\n{TEXT.format(file=file, python=PYTHON)}"


def _exported() -> Path:
    """Return the exported file: of q8_0, whose answers are nearly those of 16 bits in half the space."""
    files = sorted(EXPORTED.glob("*-q8_0.gguf"))
    if not files:
        raise UserError(
            f"{EXPORTED}: no q8_0 file there. Make one: make export. Or name another: --gguf FILE"
        )
    return files[0]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m scripts.space", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--gguf", type=Path, metavar="FILE", help="default: export/gguf/*-q8_0.gguf")
    try:
        main(parser.parse_args().gguf)
    except UserError as error:
        sys.exit(f"error: {described(error)}")
