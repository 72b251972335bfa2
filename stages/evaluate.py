"""Score the base model, or the adapter, on the four tasks: ROUGE, chrF, likelihood, and a recipe's format.

Reads data/holdout/evaluation.parquet, and models/adapter/ with metrics/baseline.json for the adapter.
Writes metrics/baseline.json or metrics/evaluate.json, and every answer with its scores to
data/answers/baseline.jsonl or data/answers/evaluate.jsonl.

Run as `python -m stages.evaluate base` or `python -m stages.evaluate adapter`.
"""

import json
import sys
from typing import TYPE_CHECKING, Any

from sft.core import provenance
from sft.core.errors import ParamError
from sft.core.files import read_json, read_parquet, write_json, write_text
from sft.core.params import section
from sft.evaluation import summary
from sft.evaluation.evaluate import EvaluateParams, answer, choose, score
from sft.evaluation.metrics import COMMON, MEASURES
from sft.modeling import adapter, loading
from sft.modeling.flops import Cost, utilisation
from sft.modeling.loading import ModelParams
from stages import paths
from stages.cli import run

if TYPE_CHECKING:
    from sft.generation.generate import Answer, Prompt


def main(values: dict[str, Any], which: str) -> None:
    """Load the model, answer and score the examples, and write metrics and answers."""
    from sft.evaluation.likelihood import reference_nll

    model_params = section(values, "model", ModelParams)
    params = section(values, "evaluate", EvaluateParams)
    name = "baseline" if which == "base" else "evaluate"
    clock = provenance.Clock()
    if which == "adapter":
        baseline, trained = read_json(paths.METRICS_BASELINE), read_json(paths.METRICS_TRAIN)

    examples = choose(read_parquet(paths.EVALUATION), params.examples)
    with clock.phase("load"):
        base = loading.resolve(model_params.reference)
        if which == "adapter":
            check_same_base(base.commit, {"baseline": baseline, "train": trained})
        tokenizer = loading.load_tokenizer(base)
        model = loading.load_model(base, model_params.dtype, load_in_4bit=model_params.load_in_4bit)
        if model_params.load_in_4bit:
            model = loading.expanded(model)
        stop_ids = loading.stop_token_ids(tokenizer, model)
        if which == "adapter":
            model = adapter.attach(model, paths.ADAPTER)
        model.eval()
    answered = {}
    for task, rows in examples.items():
        with clock.phase(f"answer_{task}"):
            answered[task] = answer(model, tokenizer, stop_ids, task, rows, params)
    with clock.phase("likelihood"):
        likelihoods = {task: reference_nll(model, tokenizer, rows) for task, rows in examples.items()}
    with clock.phase("score"):
        scored = score(examples, answered, likelihoods)

    tasks = summary.by_task(scored, MEASURES)
    for task in examples:
        answers = [row for row in scored if row["task"] == task]
        tasks[task]["examples"] = len(examples[task])
        tasks[task]["finished"] = sum(row["finished"] for row in answers) / len(answers)
        tasks[task]["mean_tokens"] = sum(row["tokens"] for row in answers) / len(answers)
    everything = [pair for pairs in answered.values() for pair in pairs]
    answering = sum(clock.seconds[f"answer_{task}"] for task in examples)
    metrics: dict[str, Any] = dict(tasks)
    if which == "adapter":
        metrics["difference"] = summary.differences(tasks, baseline)
    metrics |= {
        "runs": params.runs,
        "answers": len(scored),
        "tokens_generated": sum(row["tokens"] for row in scored),
        "seconds": clock.seconds,
        **speed(model, model_params.dtype, everything, answering),
        "speed": {
            task: speed(model, model_params.dtype, answered[task], clock.seconds[f"answer_{task}"])
            for task in examples
        },
        "peak_memory_gib": provenance.peak_memory_gib(),
        "device": provenance.device_name(),
        "base_model": {"reference": model_params.reference, "resolved": base.commit},
        "versions": provenance.versions(),
    }
    if which == "adapter":
        metrics["trained_on"] = {
            key: trained[key] for key in ("rows_seen", "distinct_rows_seen", "tokens_seen", "epochs")
        }
    answers_path = paths.ANSWERS if which == "adapter" else paths.BASELINE_ANSWERS
    write_text(answers_path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in scored))
    write_json(paths.METRICS_EVALUATE if which == "adapter" else paths.METRICS_BASELINE, metrics)
    report(name, metrics, list(examples))


def speed(
    model: Any, dtype: str, answered: list[tuple["Prompt", list["Answer"]]], seconds: float
) -> dict[str, float | None]:
    """Return the tokens written a second, reading the prompts included, and model FLOP utilisation."""
    cost = Cost.of(model)
    flops = sum(cost.writing(len(prompt.ids), [a.tokens for a in given]) for prompt, given in answered)
    return {
        "tokens_per_second": round(sum(a.tokens for _, given in answered for a in given) / seconds, 1),
        "model_flop_utilisation": utilisation(flops, seconds, provenance.device_name(), dtype),
    }


def check_same_base(commit: str | None, others: dict[str, dict[str, Any]]) -> None:
    """Raise UserError where an unpinned base model moved since the stages before ran."""
    for stage, metrics in others.items():
        other = metrics["base_model"]["resolved"]
        if other != commit:
            raise ParamError(
                f"model.reference: it is at {commit} now, but was at {other} when {stage} ran. "
                f"Pin it, @{other}, so that all stages use the same model."
            )


def report(name: str, metrics: dict[str, Any], tasks: list[str]) -> None:
    """Print the scores as a table, mean and standard deviation over runs."""
    print(f"{name:<12}" + "".join(f"{measure:>18}" for measure in COMMON) + f"{'finished':>10}")
    for task in [*tasks, "average"]:
        scores = metrics[task]
        cells = ""
        for measure in COMMON:
            std = scores[measure]["std"]
            cells += f"{scores[measure]['mean']:>9.4f} ± " + (f"{std:.4f}" if std is not None else "  -   ")
        finished = f"{scores['finished']:>10.0%}" if "finished" in scores else ""
        own = [f"{name} {scores[name]['mean']:.0%}" for name in MEASURES.get(task, []) if name not in COMMON]
        print(f"{task:<12}{cells}{finished}{'   '.join(['', *own])}")
        if "difference" in metrics:
            print(
                f"{'  vs base':<12}"
                + "".join(f"{metrics['difference'][task][measure]:>+9.4f}{'':9}" for measure in COMMON)
            )


if __name__ == "__main__":
    choice = sys.argv[1] if len(sys.argv) == 2 else ""
    if choice not in ("base", "adapter"):
        sys.exit("usage: python -m stages.evaluate base|adapter")
    run(lambda values: main(values, choice))
