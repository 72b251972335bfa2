"""Is what `make export` wrote as good as the adapter? Each file is run as its users run it.

    python -m scripts.export_scores [--formats float32 16bit f16 q8_0 q4_k_m]

Merged models by transformers, GGUF files by llama.cpp, on held-out examples, by bits per byte and greedy
answers. Writes export/scores.json and prints a table; exits with 1 where a file loses more than its limit, or
where the float32 merge does not answer as the adapter in float32. The files stay.
"""

import argparse
import gc
import time
from pathlib import Path
from typing import Any

from scripts import adapter_base
from scripts.compat import folder_hash
from scripts.export import EXPORT, SCORES
from sft.core.errors import UserError
from sft.core.files import read_json, read_parquet, write_json
from sft.core.params import mapping, section
from sft.evaluation.all_tasks import Model, left_out
from sft.evaluation.evaluate import EvaluateParams, too_few
from sft.export import formats, losses, scoring, tools
from sft.export.export import RECORD
from sft.export.scoring import Examples, Scored
from sft.modeling import adapter, loading
from sft.modeling.loading import ModelParams, Resolved
from sft.tasks.task import TaskParams, tasks_of
from stages.cli import run
from stages.paths import ADAPTER, EVALUATION


def main(values: dict[str, Any], options: argparse.Namespace) -> None:
    """Score the adapter, then each file; write and print what came of it."""
    params, folder = section(values, "model", ModelParams), Path(EXPORT)
    files = exported(folder, options.formats)
    adapter_base.check_files()
    base = loading.resolve(params.reference)
    adapter_base.check_base(base)
    check_adapter(folder)
    tokenizer = loading.load_tokenizer(base)
    on = scoring.examples(
        read_parquet(EVALUATION),
        tasks_of(mapping(values, "tasks", TaskParams)),
        section(values, "evaluate", EvaluateParams),
        tokenizer,
        base,
    )
    for line in (*too_few(on.rows, on.params), *left_out(on.encoded)):
        print(line, flush=True)

    began = time.monotonic()
    reference = scoring.by_transformers(adapted(base, tokenizer, params), on)
    on_cpu = sum(path.endswith(".gguf") for path in files)
    print(
        f"the adapter in {params.dtype}: {time.monotonic() - began:.0f} s. {len(files)} files to score take "
        f"about as long each, a GGUF file more on a GPU machine: llama.cpp runs on the CPU ({on_cpu} files).",
        flush=True,
    )
    in_float32 = None
    if formats.FLOAT32.name in files.values():
        full = params.model_copy(update={"dtype": "float32", "load_in_4bit": False})
        in_float32 = (
            reference.answers
            if full == params
            else scoring.texts(scoring.greedy(adapted(base, tokenizer, full), on))
        )
    found, failures, seconds = [], {}, {}
    for path, made in files.items():
        gc.collect()  # the model before, whose memory the next may need
        began, name = time.monotonic(), f"{EXPORT}/{path}"
        try:
            scored = score(folder / path, tokenizer, on)
            found.append(losses.loss(name, made, scored, reference, in_float32))
        except UserError as error:
            failures[name] = str(error) if name in str(error) else f"{name}: {error}"
        seconds[name] = round(time.monotonic() - began, 1)
        print(f"{name}: {seconds[name]:.0f} s", flush=True)
    write(folder / SCORES, found, failures, seconds, params.dtype, reference, on)
    print(
        "\n".join(["", *losses.table(found, failures, f"the adapter, {params.dtype}"), "", words(on, found)])
    )
    if faults := [*(one.fault for one in found if one.fault), *failures.values()]:
        raise UserError("\n".join(faults) + f" ({EXPORT}/{SCORES})")


def exported(folder: Path, names: list[str]) -> dict[str, str]:
    """Return the exported files to score, or those of the formats named, and the format of each.

    Raises UserError for a format that was not exported, a file that has gone, and GGUF without llama.cpp.
    """
    if not (folder / RECORD).exists():
        raise UserError(f"{folder}: nothing is exported there. Run: make export")
    chosen = {one.name for one in formats.chosen(names)}
    made = {one["path"]: one["format"] for one in read_json(folder / RECORD)["formats"]}
    if missing := [name for name in names if name not in made.values()]:
        raise UserError(
            f"{folder}: {missing[0]} is not exported there. Run: make export FORMATS={missing[0]}"
        )
    for path in made:
        if not (folder / path).exists():
            raise UserError(f"{folder / path}: no such file. Run: make export")
    files = {path: name for path, name in made.items() if name in chosen}
    if any(path.endswith(".gguf") for path in files):
        tools.versions()
    return files


def check_adapter(folder: Path) -> None:
    """Raise UserError where the workspace's adapter is another than was exported."""
    if read_json(folder / RECORD)["adapter"] != folder_hash(Path(ADAPTER)):
        raise UserError(f"{folder}: it was made of another adapter than {ADAPTER} is now. Run: make export")


def adapted(base: Resolved, tokenizer: Any, params: ModelParams) -> Model:
    """Load the base model with the adapter on it, as the stage `evaluate` does."""
    model, stop_ids = loading.load_to_answer(base, tokenizer, params)
    return Model(adapter.attach(model, ADAPTER).eval(), tokenizer, stop_ids, base)


def score(path: Path, tokenizer: Any, on: Examples) -> Scored:
    """Score one exported file, or folder of safetensors."""
    if path.is_file():
        import torch

        return scoring.by_llama_cpp(path, tokenizer, on, torch.get_num_threads())
    merged = loading.resolve(str(path))
    own = loading.load_tokenizer(merged)
    params = ModelParams.model_validate({"reference": str(path), "dtype": path.name, "load_in_4bit": False})
    model, stop_ids = loading.load_to_answer(merged, own, params)
    return scoring.by_transformers(Model(model, own, stop_ids, merged), on)


def write(
    path: Path,
    found: list[losses.Loss],
    failures: dict[str, str],
    seconds: dict[str, float],
    dtype: str,
    reference: Scored,
    on: Examples,
) -> None:
    """Write scores.json: the files first, each with what decides first."""
    files: dict[str, Any] = {one.path: losses.as_json(one) for one in found}
    files |= {name: {"passed": False, "why": why} for name, why in failures.items()}
    write_json(
        path,
        {
            "files": {name: {**of, "seconds": seconds[name]} for name, of in files.items()},
            "adapter": {"dtype": dtype, **losses.by_task(reference.scores)},
            "answers": len(reference.answers),
            "likelihoods": {task: len(rows) for task, rows in on.rows.items()},
        },
    )


def words(on: Examples, found: list[losses.Loss]) -> str:
    """Say what the scores are of."""
    likelihoods = sum(len(rows) for rows in on.rows.values())
    answers = sum(len(rows[: on.params.examples]) for rows in on.rows.values())
    said = f"Bits per byte of {likelihoods} references, {answers} greedy answers"
    return f"{said}; {worth}." if (worth := losses.worth(found)) else f"{said}."


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.export_scores", description=(__doc__ or "").partition("\n")[0]
    )
    names = [made.name for made in formats.FORMATS]
    parser.add_argument(
        "--formats", nargs="*", default=[], metavar="FORMAT", help=f"of {' '.join(names)}; default: all there"
    )
    return parser.parse_args()


if __name__ == "__main__":
    given = parse_options()
    run(lambda values: main(values, given))
