"""The language of conversations, by py3langid: its model is in the package and draws nothing at random.

py3langid reads one text at a time, a byte a step of Python. Here its automaton takes that step for many texts
at once; where the probability is not clearly above or below the limit, py3langid itself decides.
"""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from sft.core.errors import ParamError
from sft.mixing import compat, word_ngrams

# The beginning says it, and the time grows with the length.
LETTERS = 2_000
# A short text can pass for many languages, so a row goes only where the other language is this sure.
SURE = 0.9
# How far from that the sums of many rows may be of those of one: they differ by rounding, some 1e-4.
_DOUBT = 0.02
NO_LANGUAGE = "zxx"


def check(wanted: Iterable[str]) -> None:
    """Raise ParamError for a code that the model does not know."""
    known = set(compat.language_model().labels) - {NO_LANGUAGE}
    unknown = [code for code in wanted if code not in known]
    if unknown:
        raise ParamError(
            f"data.filters.languages: {unknown[0]!r} is no language that can be recognized. "
            f"Those are {', '.join(sorted(known))}."
        )


def other_languages(messages: pa.ChunkedArray, wanted: Iterable[str]) -> np.ndarray:
    """Return for each row the code of its language where that is surely none of `wanted`, else ""."""
    model = compat.language_model()
    keep = {*wanted, NO_LANGUAGE}
    labels = np.array(model.nb_classes, object)
    codes: list[str] = []
    for batch in word_ngrams.texts(messages):
        texts = [text[:LETTERS] for text in batch.to_pylist()]
        best, probability = _classified([compat.language_bytes(text) for text in texts])
        for text, code, sure in zip(texts, labels[best].tolist(), probability.tolist(), strict=True):
            if abs(sure - SURE) < _DOUBT:
                code, sure = model.classify(text)
            codes.append(code if sure >= SURE and code not in keep else "")
    return np.array(codes, object)


def _classified(texts: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of each text's language and its probability, 0 where nothing tells."""
    from scipy import sparse

    weights, own = compat.language_weights()
    row, feature, count = _features(texts)
    shape = (len(texts), len(weights))
    found = sparse.csr_array((np.log1p(count).astype(np.float32), (row, feature)), shape=shape)
    sizes = np.array([max(1, len(text)) for text in texts])
    scores = (found @ weights + own) / np.sqrt(sizes)[:, None]
    scores = np.exp(scores - scores.max(axis=1, initial=-np.inf, keepdims=True))
    scores /= scores.sum(axis=1, keepdims=True)
    for first, second in compat.same_language():
        scores[:, first] += scores[:, second]
        scores[:, second] = 0
    best = scores.argmax(axis=1)
    probability = scores[np.arange(len(texts)), best]
    probability[np.diff(found.indptr) == 0] = 0
    return best, probability


def _features(texts: list[bytes]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return which features each text has, how often: text, feature and count."""
    following, base, features = compat.language_automaton()
    sizes = np.array([len(text) for text in texts])
    # The longest first, so that those that a step is for are at the beginning.
    order = np.argsort(-sizes, kind="stable")
    letters = np.zeros((sizes.max(initial=0), len(texts)), np.uint8)
    for place, row in enumerate(order.tolist()):
        letters[: sizes[row], place] = np.frombuffer(texts[row], np.uint8)
    longer = len(texts) - np.searchsorted(np.sort(sizes), np.arange(len(letters)), side="right")
    state = np.zeros(len(texts), np.int32)
    found = np.full(letters.shape, -1, np.int32)
    for step, count in enumerate(longer.tolist()):
        state = following.take(base.take(state[:count]) + letters[step, :count])
        found[step, :count] = features.take(state)
    steps, places = np.nonzero(found >= 0)
    keys = order[places] * np.int64(len(features)) + found[steps, places]
    different, count = np.unique(keys, return_counts=True)
    return different // len(features), different % len(features), count
