"""Standard benchmarks by EleutherAI's lm-eval (ifeval, arc_easy, ...), on the base model and on the adapter.

    python -m scripts.harness --tasks ifeval arc_easy [--limit 200] [--include-path FOLDER]
        [--pin DATASET@COMMIT ...]

It is no stage: what it costs is not paid at every `dvc repro`. It scores the workspace's models/adapter and
its base model with the model's chat template, and says whether the adapter is better. Writes
metrics/harness.json, the scores by example to scores/harness_*.csv (no texts; `python -m scripts.compare`
reads them), what describes the run to provenance/harness.json, and texts to data/harness/. Answers are kept
there too: a run that was cut short goes on, and the base model is scored once.
"""

import argparse
import hashlib
import importlib.metadata
import importlib.util
import json
import logging
from pathlib import Path
from typing import Any

from scripts import adapter_base, harness_scores, harness_verdicts
from scripts.compat import folder_hash, sample_as_json
from scripts.harness_scores import Found
from scripts.harness_tasks import Tasks, in_a_line, load, pins_of
from sft.core import provenance
from sft.core.errors import UserError
from sft.core.files import read_json, sha256_of, write_json, write_text
from sft.core.params import section
from sft.evaluation.evaluate import EvaluateParams
from sft.modeling import adapter, loading
from sft.modeling.loading import ModelParams, Resolved
from sft.modeling.template_facts import examine
from sft.modeling.template_rendering import DATE
from sft.statistics.scores import Scores
from stages.cli import run
from stages.paths import ADAPTER

INSTALL = "make harness installs it, or: pip install -r requirements-harness.txt -c constraints.txt"
CPU_BATCH = 8  # lm-eval's `auto` looks for what a GPU's memory takes
# What lm-eval and tasks raise for a task or a model that does not fit; anything else is a bug, here or there.
_UNFIT = (ValueError, AssertionError, LookupError, ImportError)


def main(values: dict[str, Any], options: argparse.Namespace) -> None:
    """Score both models and write what came of it."""
    if importlib.util.find_spec("lm_eval") is None:
        raise UserError(f"lm-eval is not installed. {INSTALL}")
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    params, clock = section(values, "model", ModelParams), provenance.Clock()
    batch_size = section(values, "evaluate", EvaluateParams).batch_size
    adapter_base.check_files()
    with clock.phase("tasks"):
        tasks = load(options.tasks, options.include_path, pins_of(options.pin))
    with clock.phase("load"):
        base = loading.resolve(params.reference)
        adapter_base.check_base(base)
        tokenizer = loading.load_tokenizer(base)
        model, _ = loading.load_to_answer(base, tokenizer, params)
    identity = identity_of(base, params, tokenizer)
    models: dict[str, Found] = {}
    for name in harness_scores.SCORES:
        if name == "adapter":
            model = adapter.attach(model, ADAPTER).eval()
            identity = [*identity, folder_hash(Path(ADAPTER))]
        check_weights(model, name)
        with clock.phase(name):
            results = score(model, tokenizer, tasks, options.limit, batch_size, cache(name, identity))
        models[name] = harness_scores.found(results)
        for task, samples in results["samples"].items():
            written = (sample_as_json(sample) + "\n" for sample in samples)
            write_text(f"{harness_scores.SAMPLES}/{name}/{task}.jsonl", "".join(written))
    write(models, record(base, tokenizer, tasks, results, models, options.limit, clock))
    print("\n".join(["", *verdict()]))


def check_weights(model: Any, name: str) -> None:
    """Raise UserError for weights that are no finite numbers: what such a model writes is no answer."""
    if not all(weights.isfinite().all() for weights in model.parameters()):
        of = ADAPTER if name == "adapter" else "model.reference"
        raise UserError(
            f"{of}: damaged: it holds weights that are no finite numbers. Fetch or train it anew."
        )


def identity_of(base: Resolved, params: ModelParams, tokenizer: Any) -> list[str]:
    """Return all that a model's answers come from: weights, template, how and on what they are computed."""
    # A folder has no revision: its content may change.
    files = (path for path in base.path.glob("*.*") if path.is_file() and not path.name.startswith("."))
    content = [base.revision] if base.revision else [sha256_of(path) for path in sorted(files)]
    prompted = [str(tokenizer.chat_template), str(end_of_thoughts(tokenizer))]
    computed = [params.dtype, str(params.load_in_4bit), provenance.device_name()]
    versions = [f"{name}=={version}" for name, version in provenance.versions().items()]
    return [*content, *prompted, *computed, *versions, lm_eval_version()]


def end_of_thoughts(tokenizer: Any) -> str | int | None:
    """Return what ends the thoughts before an answer, which lm-eval then scores alone; None: nothing does.

    It is a text, or the id of the token that it is: a special one is not in the decoded answer.
    """
    reasoning = examine(tokenizer).reasoning
    if reasoning is None or not (closing := reasoning.closing.strip()):
        return None
    tokens = tokenizer.encode(closing, add_special_tokens=False)
    return tokens[0] if len(tokens) == 1 else closing


def cache(name: str, identity: list[str]) -> str:
    """Return where lm-eval keeps the answers of the model `name`: another one has another file."""
    key = hashlib.sha256("\n".join(identity).encode()).hexdigest()[:16]
    return f"{harness_scores.SAMPLES}/cache/{name}-{key}"


def score(
    model: Any, tokenizer: Any, tasks: Tasks, limit: int | None, batch_size: int | str, answers: str
) -> dict[str, Any]:
    """Return lm-eval's results of a model; raise UserError for a task that does not fit it."""
    import jinja2
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    on_cpu = model.device.type == "cpu"
    lm = HFLM(
        pretrained=model,
        tokenizer=tokenizer,
        batch_size=CPU_BATCH if batch_size == "auto" and on_cpu else batch_size,
        # As in training: Llama 3's templates print the date, which would change the prompts daily.
        think_end_token=end_of_thoughts(tokenizer),
        chat_template_args={"date_string": DATE.strftime("%d %b %Y"), "strftime_now": DATE.strftime},
    )
    try:
        return simple_evaluate(
            lm,
            tasks=tasks.objects,
            task_manager=tasks.manager,  # else it reads all its tasks' files anew
            limit=limit,
            apply_chat_template=True,
            use_cache=answers,
        )
    except (*_UNFIT, jinja2.TemplateError) as error:
        raise UserError(
            f"{', '.join(tasks.names)}: lm-eval cannot score this model: {in_a_line(error)} See the "
            "tasks' YAML files. What was answered so far is kept: the next run goes on from there."
        ) from error


def record(
    base: Resolved,
    tokenizer: Any,
    tasks: Tasks,
    results: dict[str, Any],
    models: dict[str, Found],
    limit: int | None,
    clock: provenance.Clock,
) -> dict[str, Any]:
    """Return what describes the run: which models, tasks and data, how long, on what, by which packages."""
    lower: dict[str, list[str]] = {}
    for task, metric in sorted(models["adapter"].lower):
        lower.setdefault(task, []).append(metric)
    return {
        "base_model": {"reference": base.reference, "resolved": base.revision, "weights": base.weights},
        "adapter": folder_hash(Path(ADAPTER)),
        "lm_eval": lm_eval_version(),
        "limit": limit,
        "end_of_thoughts": end_of_thoughts(tokenizer),
        "data": tasks.data,
        "tasks": {
            task: {
                "version": results["versions"][task],
                "shots": results["n-shot"][task],
                "examples": results["n-samples"][task]["effective"],
                "of": results["n-samples"][task]["original"],
            }
            for task in results["samples"]
        },
        "lower_is_better": lower,
        "seconds": clock.seconds,
        "peak_memory_gib": provenance.peak_memory_gib(),
        "device": provenance.device_name(),
        "versions": provenance.versions(),
    }


def lm_eval_version() -> str:
    """Return the installed version of lm-eval."""
    return importlib.metadata.version("lm_eval")


def write(models: dict[str, Found], of_run: dict[str, Any]) -> None:
    """Write the files that Git keeps, and have DVC know the metrics."""
    for name, path in harness_scores.SCORES.items():
        write_text(path, harness_scores.as_csv(models[name].by_example))
    write_json(harness_scores.PROVENANCE, of_run)
    write_json(harness_scores.METRICS, harness_scores.as_metrics(models))
    # In the metrics' own folder: in the root's dvc.yaml, DVC would warn of the file wherever it is not.
    write_text(
        harness_scores.METRICS_PIPELINE,
        "# Written by scripts.harness, so that `dvc metrics diff` shows what it found.\n"
        f"metrics:\n- {Path(harness_scores.METRICS).name}\n",
    )


def verdict() -> list[str]:
    """Compare the adapter with the base model, by the files as anyone reads them: a table, and a sentence."""
    scores = {
        name: harness_scores.parse(Path(path).read_text(encoding="utf-8"), path)
        for name, path in harness_scores.SCORES.items()
    }
    of_run = json.loads(Path(harness_scores.PROVENANCE).read_text(encoding="utf-8"))
    lower = harness_scores.lower_is_better(of_run)
    found = harness_verdicts.findings({"adapter": scores["adapter"]}, scores["base"], lower)
    return [
        "Base model -> adapter",
        *harness_verdicts.lines(found),
        "",
        harness_verdicts.sentence(found, "the base model"),
        *(
            [f"No mean over examples, so not judged: {', '.join(other)}."]
            if (other := corpus_level(scores))
            else []
        ),
    ]


def corpus_level(scores: dict[str, Scores]) -> list[str]:
    """List the metrics of the metrics file that have no scores by example, each with its task."""
    metrics = read_json(harness_scores.METRICS)
    return [
        f"{metric} of {task}"
        for task, of in metrics.items()
        for metric in of
        if (task, metric) not in scores["adapter"]
    ]


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.harness", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--tasks", nargs="+", required=True, metavar="TASK", help="tasks, groups, tags")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N examples of each task")
    parser.add_argument("--include-path", metavar="FOLDER", help="where tasks' YAML files of your own lie")
    parser.add_argument(
        "--pin", nargs="+", default=[], metavar="DATASET@COMMIT", help="the commit of a data set of the hub"
    )
    options = parser.parse_args()
    if options.limit is not None and options.limit < 1:
        parser.error("--limit: a number from 1 on")
    return options


if __name__ == "__main__":
    given = parse_options()
    run(lambda values: main(values, given))
