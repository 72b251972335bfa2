"""How likely a model finds an answer that it did not write: a metric without decoding noise."""

from typing import Any

import torch
from torch.nn.functional import cross_entropy

from sft.core.errors import UserError
from sft.modeling.chat_template import TemplateRefusal, encode, prompt_ids

TOKENS = 4096  # in a batch, padding included: a fixed number, so that every machine batches alike


@torch.inference_mode()
def reference_nll(model: Any, tokenizer: Any, examples: list[dict[str, Any]]) -> list[float]:
    """Return each example's mean negative log-likelihood, in nats a token, of `reference` after `prompt`.

    The token that ends the turn counts. Raises UserError where the chat template never shows which tokens are
    the assistant's, and naming an example that it refuses or does not show it in.
    """
    rows = []
    for example in examples:
        answer = {"role": "assistant", "content": example["reference"]}
        try:
            encoded = encode(tokenizer, [*example["prompt"], answer])
        except TemplateRefusal as error:
            raise UserError(
                f"the likelihood of the example {example['id']} cannot be taken: {error}. Take it out of its "
                "source."
            ) from error
        start = len(prompt_ids(tokenizer, example["prompt"]))  # earlier answers in the prompt do not count
        counted = [n for n, ours in enumerate(encoded.assistant_mask) if ours and n >= start]
        rows.append((encoded.input_ids, counted))
    means = [0.0] * len(rows)
    for places in _batches([len(ids) for ids, _ in rows]):
        longest = max(len(rows[n][0]) for n in places)
        pad = tokenizer.pad_token_id
        ids = torch.tensor([rows[n][0] + [pad] * (longest - len(rows[n][0])) for n in places])
        mask = torch.tensor([[1] * len(rows[n][0]) + [0] * (longest - len(rows[n][0])) for n in places])
        logits = model(
            input_ids=ids.to(model.device), attention_mask=mask.to(model.device), use_cache=False
        ).logits
        for row, n in enumerate(places):
            targets = torch.tensor(rows[n][1])
            scores = logits[row, (targets - 1).to(model.device)].float()
            means[n] = cross_entropy(scores, ids[row, targets].to(model.device)).item()
    return means


def _batches(lengths: list[int]) -> list[list[int]]:
    """Share rows of similar length out to batches of TOKENS tokens at most, one row at least."""
    batches: list[list[int]] = []
    for n in sorted(range(len(lengths)), key=lambda n: (-lengths[n], n)):
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= TOKENS:
            batches[-1].append(n)
        else:
            batches.append([n])
    return batches
