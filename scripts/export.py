"""The adapter as files that other programs use: merged safetensors, GGUF, an Ollama Modelfile, in export/.

    python -m scripts.export [--formats float32 16bit f16 q8_0 q4_k_m] [--score]

It is no stage: what it costs is not paid at every `dvc repro`. docs/export.md says what each file is for.
With --score they are scored too, as by scripts.export_scores, in this process, which has loaded torch.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from scripts import adapter_base, export_scores
from scripts.compat import folder_hash
from scripts.export_formats import EXPORT, run_on_formats
from scripts.revisions import git
from sft.card.exported import card_of_export
from sft.core import provenance
from sft.core.errors import UserError
from sft.core.files import read_text
from sft.core.params import section
from sft.export import formats, tools
from sft.export.export import Source, export
from sft.export.summary import summary
from sft.fetch.uri import parse
from sft.modeling import loading
from sft.modeling.loading import ModelParams, Resolved
from stages.paths import ADAPTER, CARD


def main(values: dict[str, Any], options: argparse.Namespace) -> None:
    """Export the workspace's adapter and say what came of it."""
    params, began = section(values, "model", ModelParams), time.monotonic()
    made = formats.chosen(options.formats)
    if any(one.kind == "gguf" for one in made):
        tools.versions()  # raises where there are none, before the base is fetched
    adapter_base.check_files()
    base = loading.resolve(params.reference)
    adapter_base.check_base(base)
    source = Source(
        base,
        Path(ADAPTER),
        name_of(base),
        half="float16" if params.dtype == "float16" else "bfloat16",
        card=card_maker(),
        trained_in_4bit=params.load_in_4bit,
    )
    found = export(source, made, Path(EXPORT), origin(source))
    print("\n".join(summary(found, EXPORT)))
    print(f"{time.monotonic() - began:.0f} s", flush=True)
    if options.score:
        export_scores.main(values, options)


def card_maker() -> Callable[[str, Sequence[str]], str] | None:
    """Return what makes the cards of the export's folders from the adapter's, None where that has none.

    Raises UserError for a card whose header cannot be read.
    """
    from yaml import YAMLError

    if not Path(CARD).exists():
        return None
    made = partial(card_of_export, read_text(CARD))
    try:
        made("gguf", [])
    except (ValueError, YAMLError) as error:
        raise UserError(f"{CARD}: its header cannot be read. Make it again: dvc repro card") from error
    return made


def name_of(base: Resolved) -> str:
    """Return what the fine-tuned model is called: its base's own name and -sft."""
    address = parse(base.reference)
    own = Path(base.path).name if base.kind == "local" else address.name.rpartition("/")[2]
    return f"{own}-sft"


def origin(source: Source) -> dict[str, Any]:
    """Return what says where an export comes from; nothing of it differs when it is made again."""
    base = source.base
    return {
        "name": source.name,
        "base_model": {"reference": base.reference, "resolved": base.revision, "weights": base.weights},
        "adapter": folder_hash(source.adapter),
        "commit": git("rev-parse", "HEAD").strip(),
        "versions": provenance.versions(),
    }


if __name__ == "__main__":
    run_on_formats(main, "python -m scripts.export", __doc__, default="all", scores=True)
