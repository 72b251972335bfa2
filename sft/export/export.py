"""An adapter merged into its base model and written in the formats chosen: all of them, or nothing."""

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sft.core.files import read_json, replacing, sha256_of, write_json, write_text
from sft.export import checkpoint, gguf_files, merge, token_check, tokenizer, tools
from sft.export.chat_turns import NotTurns
from sft.export.formats import F16, FLOAT32, Q4_K_M, Q8_0, Format, check_space, written
from sft.export.modelfile import modelfile
from sft.modeling.loading import Resolved, stop_token_ids
from sft.modeling.weights import stored_dtype

RECORD = "export.json"
CARD = "README.md"
MODELFILE = "Modelfile"
GGUF = "gguf"
# The Modelfile names the first of these that is there.
SERVED = (Q8_0, Q4_K_M, F16)
TRAINED_IN_4BIT = (
    "The adapter was trained on 4-bit weights (model.load_in_4bit). It is merged into the unquantized "
    "ones of {}, so it answers a little differently."
)
TODAY = (
    "The chat template prints today's date, by a format that is not written in it. Training had 26 Jul 2024 "
    "there: give servers that date, if they take one."
)
NO_OLLAMA = "Ollama cannot have this model's chat template: {}. So there is no Modelfile."


@dataclass(frozen=True)
class Source:
    """What is exported: an adapter, its base model, and what they are called.

    `half` is the type of the 16-bit export where the base is not stored in one. `card` makes the model card
    of a folder of the export, from its name and its files' names, if there is one. `trained_in_4bit` says
    that training had the base in 4 bits.
    """

    base: Resolved
    adapter: Path
    name: str
    half: str
    card: Callable[[str, Sequence[str]], str] | None
    trained_in_4bit: bool = False


def export(source: Source, formats: Sequence[Format], folder: Path, record: dict[str, Any]) -> dict[str, Any]:
    """Write the formats into `folder`, which is replaced as a whole, and return what its export.json holds.

    `record` says where it comes from, and begins that file.
    Raises UserError before anything is written where tools are missing, the disk is too small, or the base is
    of a kind that cannot be exported; later where a tool fails: then `folder` is as it was.
    """
    files = [made for made in formats if made.kind == "gguf"]
    merge.check_base(source.base)
    if files:
        record = {**record, "tools": tools.versions()}
        gguf_files.check_architecture(read_json(source.base.path / "config.json"), source.base.reference)
    check_space(folder, formats, merge.count(source.base.path))
    with replacing(folder) as temporary:
        temporary.mkdir()
        notes = _write(source, formats, temporary)
        found = {
            **record,
            "notes": notes,
            "formats": [_described(temporary, made, source) for made in formats],
        }
        write_json(temporary / RECORD, found)
    return found


def path_of(made: Format, source: Source) -> str:
    """Return where a format lies in the export's folder: a folder of safetensors, or a GGUF file."""
    if made.kind == "gguf":
        return f"{GGUF}/{source.name}-{made.name}.gguf"
    return "float32" if made is FLOAT32 else half(source)


def half(source: Source) -> str:
    """Return the type of the 16-bit export: that in which the base is stored, else `source.half`."""
    return {"BF16": "bfloat16", "F16": "float16"}.get(stored_dtype(source.base.path), source.half)


def _write(source: Source, formats: Sequence[Format], folder: Path) -> list[str]:
    """Write the formats, and return what a reader of them should know."""
    on_the_way = written(formats)
    exported = tokenizer.exported(source.base)
    merged = merge.Merged(source.base, source.adapter)
    stops = stop_token_ids(exported, merged.model)
    _say(f"merging {source.adapter} into {source.base.reference}")
    folders = {path_of(made, source): made for made in on_the_way if made.kind == "safetensors"}
    checkpoint.write(merged, exported, {dtype: folder / dtype for dtype in folders}, F16 in on_the_way)
    del merged
    for dtype in folders:
        _write_card(source, folder / dtype)
    notes = [TRAINED_IN_4BIT.format(source.base.reference)] if source.trained_in_4bit else []
    if tokenizer.prints_today(exported.chat_template):
        notes.append(TODAY)
    if F16 in on_the_way:
        notes += _write_gguf(source, formats, folder, exported, stops)
    for made in on_the_way:
        if made not in formats:
            path = folder / path_of(made, source)
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return notes


def _write_gguf(
    source: Source, formats: Sequence[Format], folder: Path, exported: Any, stops: Sequence[int]
) -> list[str]:
    (folder / GGUF).mkdir()
    f16 = folder / path_of(F16, source)
    _say("converting to GGUF")
    gguf_files.convert(folder / path_of(FLOAT32, source), f16, source.name, source.base)
    token_check.check(f16, exported, source.base.reference)
    for made in (Q8_0, Q4_K_M):
        if made in formats:
            _say(f"quantizing to {made.name}")
            gguf_files.quantize(f16, folder / path_of(made, source), made)
    names = [Path(path_of(made, source)).name for made in SERVED if made in formats]
    notes = []
    try:
        write_text(folder / GGUF / MODELFILE, modelfile(exported, stops, names, gguf_files.adds_bos(f16)))
    except NotTurns as error:
        notes.append(NO_OLLAMA.format(error))
    _write_card(source, folder / GGUF)
    return notes


def _write_card(source: Source, folder: Path) -> None:
    if source.card:
        names = sorted(path.name for path in folder.iterdir())
        write_text(folder / CARD, source.card(folder.name, names))


def _say(what: str) -> None:
    print(f"{what} ...", file=sys.stderr, flush=True)


def _described(folder: Path, made: Format, source: Source) -> dict[str, Any]:
    """Describe a format that lies in `folder`: its files with their hashes, and what a weight takes."""
    place = path_of(made, source)
    path = folder / place
    paths = [path] if path.is_file() else sorted(path.iterdir())
    described: dict[str, Any] = {"format": made.name, "path": place}
    if made.kind == "gguf":
        described |= asdict(gguf_files.contents(path, made))
    else:
        described |= {"weights": merge.count(path), "bits_per_weight": made.most_bits}
    described["bytes"] = sum(one.stat().st_size for one in paths)
    described["sha256"] = {one.relative_to(folder).as_posix(): sha256_of(one) for one in paths}
    return described
