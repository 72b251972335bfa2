"""What mixing relies on in its packages without their promise: is it still there, and alike?"""

import numpy as np

from sft.mixing import compat, language_id
from tests.tiny import dialogue, table

LOOK_AT = "changed in this version: see {} in py3langid/langid.py and mend sft/mixing/compat.py"
TEXTS = [
    "Bonjour mes amis, nous allons préparer une soupe",
    "the house which my father built is still there at the end of the road",
    "Ich habe heute keine Zeit, weil wir morgen früh verreisen",
    "это простой текст на русском языке",
    "你好吗我很好谢谢你",
    "DAS IST LAUT",
    "la casa es muy grande y bonita",
    "ok",
    "...",
    "",
    "42",
]


def test_the_model_s_automaton_weights_and_aliases() -> None:
    """What is taken from py3langid gives the languages and probabilities that it gives itself."""
    model = compat.language_model()
    read = [compat.language_bytes(text) for text in TEXTS]
    where = LOOK_AT.format("visit_counts and LanguageIdentifier._decide")
    best, probability = language_id._classified(read)
    for text, number, sure in zip(TEXTS, best.tolist(), probability.tolist(), strict=True):
        language, exactly = model.classify(text)
        if sure:
            assert (model.nb_classes[number], round(sure, 3)) == (language, round(exactly, 3)), where
        else:
            assert exactly < 0.1, where


def test_rows_have_the_languages_that_the_model_gives_each() -> None:
    rng = np.random.default_rng(0)
    said = [" ".join(rng.choice(TEXTS, rng.integers(0, 3))) for _ in range(600)]
    rows = [dialogue(question, answer) for question, answer in zip(said[::2], said[1::2], strict=True)]
    model = compat.language_model()
    expected = []
    for question, answer in rows:
        language, sure = model.classify(f"{question['content']}\n{answer['content']}"[: language_id.LETTERS])
        expected.append(language if language not in ("en", "zxx") and sure >= language_id.SURE else "")
    found = language_id.other_languages(table(rows)["messages"], ["en"])
    assert found.tolist() == expected and len(set(expected)) > 4


def test_where_it_is_doubtful_the_model_itself_decides(monkeypatch) -> None:
    rows = table([dialogue("Bonjour mes amis", TEXTS[0])])["messages"]
    assert language_id.other_languages(rows, ["en"]).tolist() == ["fr"]
    for doubtful, code in ((0.89, "fr"), (0.91, "fr"), (0.5, "")):
        monkeypatch.setattr(
            language_id, "_classified", lambda texts, p=doubtful: (np.array([0]), np.array([p]))
        )
        assert language_id.other_languages(rows, ["en"]).tolist() == [code]
