"""Is what `make export` wrote as good as the adapter? Each file is run as its users run it.

    python -m scripts.export_scores [--formats float32 16bit f16 q8_0 q4_k_m]

Merged models by transformers, GGUF files by llama.cpp, side by side, on held-out examples, by bits per byte
and greedy answers. Writes export/scores.json, where the scores of other formats stay, and prints a table;
exits with 1 where a file loses more than its limit, or where the float32 merge does not answer as the adapter
in float32. The files stay.
"""

import argparse
import gc
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scripts import adapter_base
from scripts.compat import folder_hash
from scripts.export_formats import EXPORT, SCORES, run_on_formats
from sft.core.errors import UserError
from sft.core.files import read_json, read_parquet, write_json
from sft.core.params import mapping, section
from sft.evaluation.all_tasks import Model, left_out
from sft.evaluation.evaluate import EvaluateParams, too_few
from sft.export import formats, gguf_scoring, losses, scoring, tools
from sft.export.export import RECORD
from sft.export.scoring import Examples, Scored
from sft.modeling import adapter, loading
from sft.modeling.loading import ModelParams, Resolved
from sft.tasks.task import TaskParams, tasks_of
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

    found, failures, seconds = [], {}, {}
    with side_by_side([folder / path for path in files if path.endswith(".gguf")], on) as told:
        began = time.monotonic()
        reference = scoring.by_transformers(adapted(base, tokenizer, params), on)
        print(
            f"the adapter in {params.dtype}: {time.monotonic() - began:.0f} s. {len(files)} files to score "
            "take about as long each, a GGUF file more on a GPU machine: llama.cpp runs on the CPU "
            f"({len(told)} files), beside the others.",
            flush=True,
        )
        for path, made in files.items():
            gc.collect()  # the model before, whose memory the next may need
            began, name = time.monotonic(), f"{EXPORT}/{path}"
            try:
                behind = None
                if folder / path in told:
                    answer, seconds[name] = told[folder / path].result()
                    scored = gguf_scoring.by_llama_cpp(answer, tokenizer, on)
                else:
                    scored = score_merged(folder / path, on)
                    if made == formats.FLOAT32.name:
                        full = params.model_copy(update={"dtype": "float32", "load_in_4bit": False})
                        gc.collect()
                        behind = scoring.behind(adapted(base, tokenizer, full), on, scored.tokens)
                found.append(losses.loss(name, made, scored, reference, behind))
            except UserError as error:
                failures[name] = str(error) if name in str(error) else f"{name}: {error}"
            seconds.setdefault(name, time.monotonic() - began)
            print(f"{name}: {seconds[name]:.0f} s", flush=True)
    scores = as_json(found, failures, seconds, params.dtype, reference, on)
    print("\n".join(kept_scores(folder / SCORES, scores)), end="")
    write_json(folder / SCORES, scores)
    print(
        "\n".join(["", *losses.table(found, failures, f"the adapter, {params.dtype}"), "", words(on, found)])
    )
    if faults := [*(one.fault for one in found if one.fault), *failures.values()]:
        raise UserError("\n".join(faults) + f" ({EXPORT}/{SCORES})")


@contextmanager
def side_by_side(files: list[Path], on: Examples) -> Iterator[dict[Path, "Future[tuple[Any, float]]"]]:
    """Have llama.cpp run GGUF files, one after another, while torch computes.

    Each has half of the processor's threads, which neither would use well alone: few texts are written at a
    time. Torch has no more where no GGUF file is scored, for its sums in 16 bits may depend on that. Beside a
    GPU llama.cpp has all of them. Yields what llama.cpp tells of each file, and its seconds.
    """
    import torch

    threads = torch.get_num_threads()
    asked = gguf_scoring.asked(on, threads if torch.cuda.is_available() else threads - threads // 2)
    torch.set_num_threads(max(1, threads // 2))

    def tell(file: Path) -> tuple[Any, float]:
        began = time.monotonic()
        return gguf_scoring.told(file, asked), time.monotonic() - began

    with ThreadPoolExecutor(1) as pool:
        try:
            yield {file: pool.submit(tell, file) for file in files}
        finally:  # where it ends early, what llama.cpp has not finished is of no use
            pool.shutdown(wait=False, cancel_futures=True)
            tools.stop()
            torch.set_num_threads(threads)


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


def score_merged(path: Path, on: Examples) -> Scored:
    """Score an exported folder of safetensors."""
    merged = loading.resolve(str(path))
    own = loading.load_tokenizer(merged)
    params = ModelParams.model_validate({"reference": str(path), "dtype": path.name, "load_in_4bit": False})
    model, stop_ids = loading.load_to_answer(merged, own, params)
    return scoring.by_transformers(Model(model, own, stop_ids, merged), on)


def as_json(
    found: list[losses.Loss],
    failures: dict[str, str],
    seconds: dict[str, float],
    dtype: str,
    reference: Scored,
    on: Examples,
) -> dict[str, Any]:
    """Return what scores.json holds: the files first, each with what decides first."""
    files: dict[str, Any] = {one.path: losses.as_json(one) for one in found}
    files |= {name: {"passed": False, "why": why} for name, why in failures.items()}
    return {
        "files": {name: {**of, "seconds": round(seconds[name], 1)} for name, of in files.items()},
        "adapter": {"dtype": dtype, **losses.by_task(reference.scores)},
        "answers": len(reference.answers),
        "likelihoods": {task: len(rows) for task, rows in on.rows.items()},
    }


def kept_scores(path: Path, scores: dict[str, Any]) -> list[str]:
    """Add the other files' scores from before; return what to say of those that cannot be kept.

    They are of the same export, which replaces the folder as a whole. What they were compared with must be
    the same, too: model.dtype, the examples, and so the adapter's scores.
    """
    before = read_json(path) if path.exists() else {"files": {}}
    others = {name: of for name, of in before.pop("files").items() if name not in scores["files"]}
    if not others or before == {name: of for name, of in scores.items() if name != "files"}:
        scores["files"] = others | scores["files"]
        return []
    return [
        f"left out of {path}: {', '.join(others)}: what they were compared with was not as now. "
        "Score all: python -m scripts.export_scores\n"
    ]


def words(on: Examples, found: list[losses.Loss]) -> str:
    """Say what the scores are of."""
    likelihoods = sum(len(rows) for rows in on.rows.values())
    answers = sum(len(rows[: on.params.examples]) for rows in on.rows.values())
    said = f"Bits per byte of {likelihoods} references, {answers} greedy answers"
    return f"{said}; {worth}." if (worth := losses.worth(found)) else f"{said}."


if __name__ == "__main__":
    run_on_formats(main, "python -m scripts.export_scores", __doc__, default="all there")
