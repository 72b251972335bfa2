"""The model card as text: huggingface_hub's header and the page of template.md, filled in.

The same run gives the same text: there is no date in it, no commit, and no path of a machine.
"""

from pathlib import Path
from typing import Any

from sft.card.header import header
from sft.card.licences import licence_of
from sft.card.limits import limits
from sft.card.markdown import cell, code
from sft.card.params import OTHER, UNDECIDED
from sft.card.run import Run, shown
from sft.card.usage import usage
from sft.fetch.uri import Address, parse
from sft.statistics.gains import Gain, sentence
from sft.tasks.metric_names import METRICS

TEMPLATE = Path(__file__).with_name("template.md")
HUB, INDEX = "https://huggingface.co", "https://pypi.org/project"


def build(run: Run) -> str:
    """Return the card of a run."""
    from huggingface_hub import ModelCard

    card = ModelCard.from_template(
        header(run),
        template_str=TEMPLATE.read_text(encoding="utf-8"),
        title=f"LoRA adapter of {run.base_name}",
        base=_base(run),
        rows_read=f"{run.train.rows_seen:,}",
        verdict=sentence(run.gains, "the base model"),
        metrics=_metrics(run),
        limits=limits(run),
        use=usage(run),
        sources=[_source(run, uri, uses) for uri, uses in run.sources.items()],
        mix=", ".join(f"{cell(name)} {rows:,}" for name, rows in run.mix.sources.items()),
        kinds=[
            [cell(name), f"{kind.rows_in_mix:,}", f"{kind.rows_seen:,}", f"{kind.distinct_rows_seen:,}"]
            for name, kind in run.train.kinds.items()
        ],
        training=_training(run),
        base_licence=licence_of(run.base),
        licence=_licence(run.license),
    )
    return f"{card.content.strip()}\n"


def _metrics(run: Run) -> list[dict[str, Any]]:
    found = []
    for name in dict.fromkeys(gain.metric for gain in run.gains):
        metric = METRICS[name]
        rows = [_gain(gain) for gain in run.gains if gain.metric == name]
        direction = "lower" if metric.lower_is_better else "higher"
        found.append({"label": metric.label, "direction": direction, "rows": rows})
    return found


def _gain(gain: Gain) -> list[str]:
    plain = METRICS[gain.metric].format
    signed = f"+z{plain}"  # z: no -0.000
    interval = "" if gain.low is None or gain.high is None else f"{gain.low:{signed}} to {gain.high:{signed}}"
    outcome = f"{gain.outcome.value} ({gain.note})" if gain.note else gain.outcome.value
    levels = f"{gain.before:{plain}}", f"{gain.after:{plain}}"
    return [cell(gain.task), *levels, f"{gain.difference:{signed}}", interval, cell(outcome)]


def _source(run: Run, uri: str, uses: list[str]) -> list[str]:
    address, record = parse(uri), run.standardize.sources.get(uri)
    rows, resolved = (f"{record.rows:,}", _short(record.resolved)) if record else ("", "")
    return [_link(address), cell(", ".join(uses)), rows, resolved, cell(licence_of(address))]


def _link(address: Address) -> str:
    """Name what is at an address, with its page; of a path outside the repository only the last part."""
    part = f" {code(f'#{address.fragment}')}" if address.fragment else ""
    if address.scheme == "pypi":
        page = f"{INDEX}/{address.name}/{address.revision}/"
        return f"[{cell(address.name)} {address.revision}]({page}){part}"
    if address.scheme == "file":
        return code(shown(address)) + part
    folder = "datasets/" if address.scheme == "dataset" else ""
    return f"[{cell(address.name)}]({HUB}/{folder}{address.name}){part}"


def _base(run: Run) -> str:
    """Name the base model, and where its weights are from."""
    link = _link(run.base)
    return link if run.base.scheme == "model" else f"{cell(run.base_name)} ({link})"


def _short(resolved: str) -> str:
    """Return the beginning of a commit or of a digest, enough to know it by."""
    scheme, colon, digest = resolved.rpartition(":")
    return code(f"{scheme}{colon}{digest[:12]}")


def _training(run: Run) -> list[list[str]]:
    params, train = run.training, run.train
    base = f"{_base(run)}, weights {train.base_model.weights}, computed in {run.model.dtype}"
    if run.model.load_in_4bit:
        base += ", loaded in 4 bits (NF4)"
    if train.base_model.resolved:
        base += f", {_short(train.base_model.resolved)}"
    lora = params.lora
    modules = ", ".join(code(module) for module in lora.target_modules)
    return [
        ["base model", base],
        [
            "LoRA",
            f"r {lora.r}, alpha {lora.alpha:g}, dropout {lora.dropout:g}, on {modules}: "
            f"{train.trainable_parameters:,} parameters",
        ],
        [
            "budget",
            f"{cell(params.budget)}: {train.steps:,} steps of {params.batch_size:,} rows, "
            f"{train.tokens_seen:,} tokens",
        ],
        ["loss", f"of {'the answers' if params.loss_on == 'assistant' else 'all tokens'}"],
        ["longest row", f"{params.max_length:,} tokens; longer ones: {params.too_long}"],
        [
            "optimizer",
            f"{params.optimizer}, learning rate {params.learning_rate:g} ({params.lr_scheduler}, "
            f"{params.warmup_steps:,} warm-up steps), weight decay {params.weight_decay:g}",
        ],
        ["engine, seed", f"{params.engine}, {params.seed}"],
    ]


def _licence(license: str) -> str:
    """Say what the adapter is published under; `license` is a param that a person sets."""
    if license == UNDECIDED:
        return (
            "Nobody has decided yet which licence this adapter is published under: `card.license` in "
            "params.yaml."
        )
    if license == OTHER:
        return (
            "This adapter is published under no licence of its own choice: whoever uses it keeps to what the "
            "licences of the base model and of the data ask."
        )
    return f"This adapter is published under {code(license)}, which the publisher has chosen."
