"""Whether the stages before had the base model and the examples that evaluation has now.

Differences between scores of other examples, or of another base model, would say nothing.
"""

from pathlib import Path

from sft.core.errors import ParamError, UserError
from sft.core.files import read_json
from sft.evaluation import scores_file
from sft.evaluation.evaluate import Example
from sft.fetch import uri
from sft.statistics.scores import Scores
from sft.tasks.metric_names import BITS_PER_BYTE, METRICS, ROUGE
from stages import paths


def check_examples(examples: dict[str, list[Example]], answered: int, before: Scores) -> None:
    """Raise UserError where the scores of the base model, `before`, are of other examples than these.

    The first `answered` of a task have answers, all of them a likelihood.
    """
    for task, rows in examples.items():
        ids = [row["id"] for row in rows]
        for metric, wanted in ((ROUGE[0], ids[:answered]), (BITS_PER_BYTE, ids)):
            scored = before[task, metric].examples if (task, metric) in before else []
            if set(scored) != set(wanted):
                raise UserError(
                    f"{paths.SCORES_BASELINE}: its examples of the task {task!r} are not those that are "
                    f"scored now: {len(wanted):,} have {METRICS[metric].label} now, {len(scored):,} there, "
                    f"{len(set(scored) & set(wanted)):,} are the same. Run baseline first: dvc repro baseline"
                )


def check_base(reference: str, revision: str | None, baseline: str) -> None:
    """Raise UserError where the adapter, or the scores of the base model, are of another base model.

    That is so where an unpinned one moved, or where a stage before has not run since the param changed.
    """
    path = Path(paths.ADAPTER) / "adapter_config.json"
    config = read_json(path)
    trained_on = config.get("base_model_name_or_path") if isinstance(config, dict) else None
    if trained_on is None:
        raise UserError(
            f"{path}: damaged: it does not say what base model it was trained on. "
            "Train it again: dvc repro train"
        )
    if trained_on != reference:
        raise ParamError(
            f"model.reference: it is {reference}, but {paths.ADAPTER} was trained on {trained_on}. "
            "Run the stages before: dvc repro"
        )
    trained, scored = config.get("revision"), scores_file.base_model(baseline, paths.SCORES_BASELINE)
    if trained is None and revision is not None:
        raise UserError(
            f"{paths.ADAPTER}: it does not say which revision of {reference} it was trained on: it is older "
            "than this code. Train it again: dvc repro train"
        )
    moved = "is another model now than when {} ran ({} now, {} then)."
    if trained != revision:
        raise ParamError(
            f"model.reference: {reference} {moved.format('train', revision, trained)} "
            f"{same_again(reference, trained, 'train')}"
        )
    if scored != scores_file.short(revision):
        now, then = scores_file.short(revision) or "no revision", scored or "no revision"
        raise ParamError(
            f"model.reference: {reference} {moved.format('baseline', now, then)} "
            f"{same_again(reference, revision, 'baseline')}"
        )


def same_again(reference: str, trained: str | None, stage: str) -> str:
    """Say how all stages get the model that the adapter was trained on, `stage` having had another.

    Only a hub's model can move under its reference; a package's wheel is checked against its digest.
    """
    address = uri.parse(reference)
    if address.scheme == "model":
        return f"Pin it, so that all stages use the same: model.reference: hf://{address.name}@{trained}"
    return f"Run that stage again: dvc repro {stage}"
