"""The card's header: what the hub reads of a model, in huggingface_hub's form."""

from typing import TYPE_CHECKING

from sft.card.licences import languages_of
from sft.card.params import OTHER, UNDECIDED
from sft.card.run import Run
from sft.fetch.uri import Address, parse
from sft.tasks.metric_names import METRICS
from sft.tasks.task import AVERAGE

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCardData

# What the hub shows beside `license: other`.
LICENSE_NAME = "as-base-model-and-data"


def header(run: Run) -> "ModelCardData":
    """Return the header; what is not known, such as a base model's repository on the hub, is left out."""
    from huggingface_hub import ModelCardData

    data_sets = [address for uri in run.sources if (address := parse(uri)).scheme == "dataset"]
    return ModelCardData(
        base_model=run.base_id or None,
        base_model_relation="adapter" if run.base_id else None,
        library_name="peft",
        pipeline_tag="text-generation",
        license=None if run.license == UNDECIDED else run.license,
        license_name=LICENSE_NAME if run.license == OTHER else None,
        language=languages_of([name for name, rows in run.mix.sources.items() if rows]) or None,
        datasets=list(dict.fromkeys(address.name for address in data_sets)) or None,
        tags=["lora", "sft", run.training.engine, "dvc"],
        model_name=f"{run.base_name} LoRA",
        eval_results=_results(run) or None,
    )


def _results(run: Run) -> "list[EvalResult]":
    """Return the adapter's scores on each task; the average is of no data set, so it has no place here."""
    from huggingface_hub import EvalResult

    sources = {task.name: parse(task.source) for task in run.tasks}
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type=_named(sources[gain.task]),
            dataset_name=f"{gain.task}: held-out examples",
            dataset_config=gain.task,
            metric_type=gain.metric,
            metric_name=METRICS[gain.metric].label,
            metric_value=gain.after,
        )
        for gain in run.gains
        if gain.task != AVERAGE
    ]


def _named(source: Address) -> str:
    """Name a data set as the hub does, else by its package or the last part of its path."""
    return source.name if source.scheme in ("dataset", "pypi") else source.name.rpartition("/")[2]
