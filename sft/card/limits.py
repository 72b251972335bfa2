"""What a reader of the scores should know before trusting the adapter: each sentence follows from the run."""

import re
from collections.abc import Iterator

from sft.card.licences import languages_of
from sft.card.run import Run

LANGUAGES = {"en": "English", "fr": "French"}
# Fewer answers of a task than this share ended by themselves: the reader is told.
ENDED = 0.9


def limits(run: Run) -> list[str]:
    """Return the sentences, in order."""
    return [*_of_scores(run), *_of_training(run), *_of_use(run)]


def _of_scores(run: Run) -> Iterator[str]:
    yield (
        f"The scores are of one training, with one seed ({run.training.seed}): another seed gives other "
        "scores. The intervals are over the examples, not over trainings."
    )
    tasks = run.evaluate.tasks
    answered = _range([task.examples for task in tasks.values()])
    likely = _range([task.likelihood_examples for task in tasks.values()])
    yield (
        f"{answered} examples a task were answered, each {_times(run.answers.runs)}{_sampled(run)}, and bits "
        f"per byte are of {likely} references a task."
    )
    trained_on = set(run.data.base) | set(run.data.extra)
    if same := [task.name for task in run.tasks if task.source in trained_on]:
        yield (
            f"The examples of {_and(same)} are held out of the sources that were trained on, so they show "
            "what is learnt of such data, and nothing of other data."
        )
    for name, task in tasks.items():
        if task.finished < ENDED:
            limit = next((of.max_new_tokens for of in run.tasks if of.name == name), None)
            yield (
                f"On {name} {task.finished:.0%} of the answers ended by themselves; the others were cut off "
                f"at {limit} tokens."
            )
    if any("format" in task.metrics for task in run.tasks):
        yield (
            "Recipe format says that an answer looks like a recipe: a title, ingredients, numbered steps. "
            "Nobody has cooked from the answers. Amounts, times and temperatures may be wrong, also where "
            "that is unsafe, and allergens are not named: no cooking advice."
        )


def _of_training(run: Run) -> Iterator[str]:
    train = run.train
    if train.distinct_rows_seen < train.rows_in_mix:
        share = train.distinct_rows_seen / train.rows_in_mix
        yield (
            f"Training read {train.distinct_rows_seen:,} of the {train.rows_in_mix:,} rows of the mix "
            f"({share:.2%}): what the others hold it has not learnt."
        )
    if train.truncated:
        what = "of the rows read were longer and were truncated"
        yield f"At most {run.training.max_length:,} tokens of a row were read; {train.truncated:,} {what}."
    if re.match(r"I?Q\d", train.base_model.weights):
        yield (
            f"The base model's weights are quantized ({train.base_model.weights}). Some of the gain over it "
            "may be what quantization had lost."
        )
    found = run.mix_metrics.contamination
    if found.question_only or found.over_half:
        yield (
            f"Of the mix's rows {found.question_only:,} ask the question of an evaluation example and have "
            f"another answer, and of those compared {found.over_half:,} hold more than half of an example, "
            "by runs of 8 words."
        )


def _of_use(run: Run) -> Iterator[str]:
    languages = languages_of([name for name, rows in run.mix.sources.items() if rows])
    if languages:
        named = _and([LANGUAGES[language] for language in languages])
        yield f"The data that it was trained on is in {named}, and in no other language."
    yield (
        "Whether its answers are true, fair or harmless has not been measured, and nothing was done about it "
        "beyond what the base model's makers did."
    )


def _sampled(run: Run) -> str:
    temperature = run.answers.temperature
    return f" at temperature {temperature:g}" if temperature else ", greedily"


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def _range(counts: list[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _and(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if words[1:] else words)
