"""What describes an evaluation."""

from sft.evaluation.account import table, tool_call_parts
from sft.tasks.metric_names import METRICS
from sft.tasks.task import AVERAGE, Task


def test_right_calls_are_told_apart_from_answers_that_rightly_call_nothing() -> None:
    call = '[{"name": "find", "arguments": {}}]'
    records = [
        {"references": [reference], **scores}
        for reference, scores in (
            (call, {"tool_call": 1.0}),
            (call, {"tool_call": 0.0}),
            (call, {"tool_call": 0.0}),
            ("No.", {"tool_call": 1.0}),
            ("No.", {"bits_per_byte": 1.0}),
        )
    ]
    assert tool_call_parts(records) == {
        "tool_call_parts": {
            "with_calls": {"answers": 3, "tool_call": 0.3333},
            "without_calls": {"answers": 1, "tool_call": 1.0},
        }
    }
    assert tool_call_parts(records[4:]) == {}


def test_the_columns_of_a_table_stand_apart() -> None:
    """A label that is longer than a number, too."""
    names = ["rougeL", "json_match"]
    task = Task(name="mine", source="mine.jsonl", holdout=0.2, max_new_tokens=8, metrics=names)
    scores = {"rougeL": 0.25, "json_match": 0.5}
    head, _, mine = table([task], {AVERAGE: scores, "mine": scores})
    assert head.endswith(f"{METRICS['rougeL'].label}  {METRICS['json_match'].label}")
    assert mine.split() == ["mine", "0.250", "0.500"] and len(mine) == len(head)
