"""Saving a LoRA adapter so that equal weights give equal files, on any machine, and loading it again."""

import json
from pathlib import Path
from typing import Any

from sft.core.errors import MissingFile
from sft.core.files import replacing
from sft.modeling import weights

KEPT = ("adapter_config.json", "adapter_model.safetensors")


def save(model: Any, folder: Path | str, reference: str, revision: str | None) -> None:
    """Write the adapter in PEFT's format, with `reference` (not a machine's path) as its base model.

    `revision` is the commit or digest that the reference stood for, None for a folder.

    PEFT writes target_modules in set order, which differs in every process; they are sorted here. Its
    model card and the trainer's pickled arguments are left out.
    """
    from safetensors import SafetensorError

    with replacing(folder) as temporary:
        try:
            model.save_pretrained(temporary, safe_serialization=True)
        except SafetensorError as error:  # how safetensors reports a full disk
            raise OSError(str(error)) from error
        for path in temporary.iterdir():
            if path.name not in KEPT:
                path.unlink()
        config_path = temporary / "adapter_config.json"
        config = json.loads(config_path.read_text())
        config["base_model_name_or_path"], config["revision"] = reference, revision
        for key in ("target_modules", "modules_to_save", "exclude_modules"):
            if isinstance(config.get(key), list):
                config[key] = sorted(config[key])
        config_path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def attach(model: Any, folder: Path | str) -> Any:
    """Put the adapter in `folder` on the base model `model`.

    Raises MissingFile where there is none, UserError where its weights are damaged.
    """
    from peft import PeftModel

    for name in KEPT:
        if not (Path(folder) / name).exists():
            raise MissingFile(Path(folder) / name)  # without safetensors PEFT would load a pickle
    weights.check_file(Path(folder) / KEPT[1])
    return PeftModel.from_pretrained(model, folder)
