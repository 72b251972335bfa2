"""What describes an evaluation."""

from sft.evaluation.account import tool_call_parts


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
