"""The language of conversations, by py3langid: its model is in the package and draws nothing at random."""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from sft.core.errors import ParamError
from sft.mixing import word_ngrams

# The beginning says it, and the time grows with the length.
LETTERS = 2_000
# A short text can pass for many languages, so a row goes only where the other language is this sure.
SURE = 0.9
NO_LANGUAGE = "zxx"


def other_languages(messages: pa.ChunkedArray, wanted: Iterable[str]) -> np.ndarray:
    """Return for each row the code of its language where that is surely none of `wanted`, else "".

    Raises UserError for a code that the model does not know.
    """
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    model = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    known = set(model.labels) - {NO_LANGUAGE}
    unknown = [code for code in wanted if code not in known]
    if unknown:
        raise ParamError(
            f"data.filters.languages: {unknown[0]!r} is no language that can be recognized. "
            f"Those are {', '.join(sorted(known))}."
        )
    keep = {*wanted, NO_LANGUAGE}
    codes = []
    for batch in word_ngrams.texts(messages):
        for text in batch.to_pylist():
            language, probability = model.classify(text[:LETTERS])
            codes.append(language if language not in keep and probability >= SURE else "")
    return np.array(codes, object)
