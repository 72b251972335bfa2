"""Rows that hold an evaluation example itself, whatever source they come from.

Items are held out by their names; that does not find an example inside another source. A row holds an example
where it has the same id, or where one of its turns has the example's question and is one of its answers,
both compared without case, white space and punctuation. Of an answer that calls tools the calls are compared:
names and arguments, without ids. The same question alone is no fault: it may have
another answer there, and "hello" is asked everywhere.
"""

import json
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sft.data.tool_calls import calls_as_text

_BATCH = 8_192  # rows compared at a time
_BEGIN = 12  # characters by which most texts are told apart from the questions


# Why a row counts; EXACT are those that hold an example.
EXACT = ("same_id", "question_and_answer")
REASONS = (*EXACT, "question_only")


@dataclass
class Matches:
    """Masks over rows: which have an example's id, which its question and answer, which its question only."""

    same_id: np.ndarray
    question_and_answer: np.ndarray
    question_only: np.ndarray

    @property
    def exact(self) -> np.ndarray:
        """Which rows hold an example."""
        return self.same_id | self.question_and_answer

    def of(self, rows: np.ndarray) -> "Matches":
        """Return the masks for some of the rows, unset for the others."""
        return Matches(self.same_id & rows, self.question_and_answer & rows, self.question_only & rows)

    def counts(self) -> dict[str, int]:
        """Count the rows, each by the first of the reasons that it has."""
        return {
            "same_id": int(self.same_id.sum()),
            "question_and_answer": int((self.question_and_answer & ~self.same_id).sum()),
            "question_only": int(self.question_only.sum()),
        }


def normalized(texts: pa.Array) -> pa.Array:
    """Return texts as they are compared: NFKC, lower case, white space and punctuation as single blanks.

    Of a text that is nothing but these its characters stay, without white space.
    """
    plain = _plain(texts)
    words = _words(plain)
    wordless = pc.equal(words, "")
    marks = pc.replace_substring_regex(plain.filter(wordless), r"[\s\p{Z}\p{Cc}]+", "")
    return pc.replace_with_mask(words, wordless, marks)


def _plain(texts: pa.Array) -> pa.Array:
    return pc.utf8_lower(pc.utf8_normalize(texts.cast(pa.large_string()), "NFKC"))


def _words(plain: pa.Array) -> pa.Array:
    return pc.utf8_trim(pc.replace_substring_regex(plain, r"[\s\p{P}\p{Z}\p{Cc}]+", " "), " ")


class Examples:
    """Evaluation examples (columns id, prompt, references and calls) to compare rows with."""

    def __init__(self, examples: pa.Table) -> None:
        self._ids = examples["id"].combine_chunks()
        asked, answers = [], []
        for example in examples.select(["prompt", "references", "calls"]).to_pylist():
            references = example["references"]
            if example["calls"] is not None:
                references = [_of_calls(example["calls"]), *references[1:]]
            question = [message["content"] for message in example["prompt"] if message["role"] == "user"][-1]
            asked += [question] * len(references)
            answers += references
        questions = normalized(pa.array(asked, pa.string()))
        self._questions = pc.unique(questions)
        self._begins = pc.unique(pc.utf8_slice_codeunits(self._questions, 0, _BEGIN))
        self._pairs = pc.unique(_joined(questions, normalized(pa.array(answers, pa.string()))))

    def matches(self, rows: pa.Table) -> Matches:
        """Compare rows (columns id and messages) with the examples.

        Every assistant turn is compared, with the last user turn before it.
        """
        same_id = np.asarray(pc.is_in(rows["id"], value_set=self._ids))
        pair, question = np.zeros(len(rows), bool), np.zeros(len(rows), bool)
        start = 0
        for batch in rows.select(["messages"]).to_batches(max_chunksize=_BATCH):
            found = self._turns(batch["messages"])
            pair[start : start + len(batch)], question[start : start + len(batch)] = found
            start += len(batch)
        return Matches(same_id, pair, question & ~pair & ~same_id)

    def _likely(self, turns: pa.Array) -> np.ndarray:
        """Mark the turns that may be one of the questions, by how they begin: most of them are none.

        What a text begins with, normalized, is what the normalized text begins with, but for the last few
        characters of it, which what follows may change.
        """
        begin = _words(_plain(pc.utf8_slice_codeunits(turns, 0, 2 * _BEGIN)))
        alike = pc.is_in(pc.utf8_slice_codeunits(begin, 0, _BEGIN), value_set=self._begins)
        short = pc.less(pc.utf8_length(begin), _BEGIN + 4)
        return np.asarray(pc.or_(alike, short)).copy()

    def _turns(self, messages: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        """Tell of each row whether it has a question with one of its answers, and a question with any."""
        sizes = pc.fill_null(pc.list_value_length(messages), 0).to_numpy()
        row = np.repeat(np.arange(len(messages)), sizes)
        flat = messages.flatten()
        role, content = flat.field("role"), flat.field("content")
        user = np.asarray(pc.equal(role, "user"))
        place = np.flatnonzero(user)
        turns = content.take(pa.array(place))
        known = self._likely(turns)
        asked = normalized(turns.filter(pa.array(known)))
        number = np.cumsum(known) - 1  # of each user turn, among those in `asked`
        known[known] = np.asarray(pc.is_in(asked, value_set=self._questions))
        # The last user turn at or before each message, by its number among the user turns; -1: none.
        before = np.cumsum(user) - 1
        answers = np.flatnonzero(np.asarray(pc.equal(role, "assistant")) & (before >= 0))
        answers = answers[(row[place[before[answers]]] == row[answers]) & known[before[answers]]]
        questions = asked.take(pa.array(number[before[answers]]))
        said, calls = content.take(pa.array(answers)), flat.field("tool_calls").take(pa.array(answers))
        if calls.null_count < len(calls):
            texts = pa.array([text and _of_calls(text) for text in calls.to_pylist()], said.type)
            said = pc.coalesce(texts, said)
        pairs = _joined(questions, normalized(said))
        right = np.asarray(pc.is_in(pairs, value_set=self._pairs))
        has_pair, has_question = np.zeros(len(messages), bool), np.zeros(len(messages), bool)
        has_question[row[answers]] = True
        has_pair[row[answers[right]]] = True
        return has_pair, has_question


@lru_cache(maxsize=1_024)
def _of_calls(calls: str) -> str:
    """Return calls as they are compared: names and arguments, whatever their order."""
    return json.dumps(json.loads(calls_as_text(calls)), sort_keys=True)


def _joined(questions: pa.Array, answers: pa.Array) -> pa.Array:
    # What is normalized has no line break.
    return pc.binary_join_element_wise(questions, answers, pa.scalar("\n", pa.large_string()))
