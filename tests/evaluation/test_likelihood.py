"""The likelihood of references: that of each by itself, whatever the batch."""

import pytest
import torch

from sft.evaluation import likelihood
from sft.evaluation.likelihood import reference_nll
from sft.modeling.chat_template import encode, prompt_ids
from sft.modeling.loading import load_model, load_tokenizer
from tests.tiny import save_model


def test_the_likelihood_of_references_is_that_of_each_by_itself(tmp_path, monkeypatch):
    """By hand: the answer's tokens and the one that ends the turn, not those of answers in the prompt."""
    base = save_model(tmp_path, spread=0.35)
    tokenizer, model = load_tokenizer(base), load_model(base, "float32", "cpu").eval()
    question = [{"role": "user", "content": "What?"}]
    prompts = [
        question,
        [*question, {"role": "assistant", "content": "That."}, {"role": "user", "content": "And why so?"}],
        [{"role": "user", "content": "Tell me more of it."}],
    ]
    references = ["Because it is.", "No.", "A longer answer than the others, by some words."]
    expected = []
    for prompt, reference in zip(prompts, references, strict=True):
        start = len(prompt_ids(tokenizer, prompt))
        answer = [{"role": "assistant", "content": reference}]
        ids = encode(tokenizer, [*prompt, *answer]).input_ids
        assert tokenizer.decode(ids[start:]) == reference + "<|eot|>"
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0]
        expected.append(
            torch.nn.functional.cross_entropy(logits[start - 1 : -1], torch.tensor(ids[start:])).item()
        )
    examples = [
        {"prompt": prompt, "reference": reference}
        for prompt, reference in zip(prompts, references, strict=True)
    ]
    for tokens in (4096, 1):
        monkeypatch.setattr(likelihood, "TOKENS", tokens)
        assert reference_nll(model, tokenizer, examples) == pytest.approx(expected, rel=1e-4)
    assert len({round(value, 2) for value in expected}) == 3
