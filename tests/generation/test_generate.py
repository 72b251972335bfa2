"""Generated answers: equal to a plain loop without cache, whatever the batch, and sampled rightly."""

import logging
import math

import pytest
import torch
from transformers import GenerationConfig

from sft.core.kept_results import KeptResults
from sft.generation import transformers_generate
from sft.generation.generate import Prompt, generate
from sft.generation.keyed_sampling import KeyedGumbel, gumbel_noise, key
from sft.modeling.loading import load_model, load_tokenizer, stop_token_ids
from tests.tiny import save_model

GOLDEN_KEY = 2457144743098622416
GOLDEN_NOISE = [-0.2616475224494934, 0.6218331456184387, 0.7270225882530212]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    base = save_model(tmp_path_factory.mktemp("tiny"), spread=0.35)
    tokenizer, model = load_tokenizer(base), load_model(base, "float32", "cpu")
    # More tokens that stop it than its own three, so that some answers end early.
    return model.eval(), tokenizer, sorted({*stop_token_ids(tokenizer, model), *range(20)})


def random_prompts(count, shortest=1, longest=30, seed=0):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(shortest, longest + 1, (count,), generator=generator).tolist()
    return [
        Prompt(f"item {n}", torch.randint(0, 256, (length,), generator=generator).tolist())
        for n, length in enumerate(lengths)
    ]


def answers(
    tiny,
    prompts,
    runs=1,
    temperature=0.0,
    batch_size=16,
    max_new_tokens=12,
    seed=42,
    stops=None,
    kept=None,
):
    """Return the answers by item and run."""
    model, tokenizer, stop_ids = tiny
    answered = {}
    for batch in generate(
        model,
        tokenizer,
        stop_ids if stops is None else stops,
        prompts,
        runs=runs,
        seed=seed,
        temperature=temperature,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        kept=kept,
    ):
        assert len(batch) <= batch_size * runs
        for answer in batch:
            place = (prompts[answer.prompt].item, answer.run)
            assert place not in answered
            answered[place] = (answer.text, answer.tokens, answer.finished)
    assert len(answered) == len(prompts) * runs
    return answered


@torch.no_grad()
def plainly(tiny, prompt, run, temperature, max_new_tokens=12, seed=42):
    """Answer one prompt by reading everything again for each token: no cache, no padding, no batch."""
    model, tokenizer, stop_ids = tiny
    ids, new = list(prompt.ids), []
    noise_key = torch.tensor([key(seed, run, prompt.item)])
    while len(new) < max_new_tokens:
        scores = model(input_ids=torch.tensor([ids + new]), use_cache=False).logits[0, -1].float()
        if temperature:
            scores = scores / temperature + gumbel_noise(noise_key, len(new), len(scores))[0]
        token = int(scores.argmax())
        if token in stop_ids:
            return tokenizer.decode(new, skip_special_tokens=True).strip(), len(new) + 1, True
        new.append(token)
    return tokenizer.decode(new, skip_special_tokens=True).strip(), len(new), False


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_batches_answer_as_a_plain_loop_does(tiny, temperature):
    prompts = random_prompts(20)
    answered = answers(tiny, prompts, runs=2, temperature=temperature, batch_size=8)
    for prompt in prompts:
        for run in range(2):
            assert answered[prompt.item, run] == plainly(tiny, prompt, run, temperature), prompt
    assert len({text for text, _, _ in answered.values()}) > 10  # the model does not say one thing always
    assert {finished for _, _, finished in answered.values()} == {True, False}


def test_what_the_model_says_of_its_own_sampling_is_left_out(tiny, monkeypatch, caplog):
    """As Llama's and Qwen's generation_config.json do; transformers' logger passes nothing on by itself."""
    prompts = random_prompts(8)
    before = answers(tiny, prompts, temperature=0.7)
    own = GenerationConfig(
        repetition_penalty=5.0, max_length=131072, do_sample=True, top_p=0.9, eos_token_id=3
    )
    monkeypatch.setattr(tiny[0], "generation_config", own)
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    assert answers(tiny, prompts, temperature=0.7) == before
    assert not caplog.records and tiny[0].generation_config is own


def test_prompts_of_a_single_token(tiny):
    prompts = [Prompt(f"item {n}", [n + 60]) for n in range(5)]
    answered = answers(tiny, prompts, runs=2, temperature=0.7)
    assert answered == {(p.item, run): plainly(tiny, p, run, 0.7) for p in prompts for run in range(2)}


def test_a_single_token_beside_a_long_prompt(tiny):
    """Its row of the prompts' cache is padding throughout."""
    prompts = [Prompt("short", [60]), Prompt("long", list(range(30, 70)))]
    for temperature in (0.0, 0.7):
        answered = answers(tiny, prompts, temperature=temperature)
        assert answered == {(p.item, 0): plainly(tiny, p, 0, temperature) for p in prompts}


def test_an_answer_does_not_depend_on_its_batch(tiny):
    prompts = random_prompts(24)
    alone = answers(tiny, prompts, runs=3, temperature=0.9, batch_size=1)
    assert answers(tiny, prompts, runs=3, temperature=0.9, batch_size=24) == alone
    assert answers(tiny, prompts, runs=3, temperature=0.9, batch_size=7) == alone
    assert answers(tiny, prompts[::-1], runs=3, temperature=0.9, batch_size=5) == alone
    fewer = answers(tiny, prompts[5:9], runs=3, temperature=0.9)
    assert fewer == {place: alone[place] for place in fewer}
    more_runs = answers(tiny, prompts, runs=5, temperature=0.9)
    assert {place: more_runs[place] for place in alone} == alone


def test_runs_and_seeds(tiny):
    prompts = random_prompts(10, shortest=2)
    answered = answers(tiny, prompts, runs=3, temperature=1.0)
    for prompt in prompts:
        assert len({answered[prompt.item, run][0] for run in range(3)}) > 1
    assert answers(tiny, prompts, runs=3, temperature=1.0) == answered
    other = answers(tiny, prompts, runs=3, temperature=1.0, seed=43)
    assert sum(other[place] != answered[place] for place in answered) > len(answered) * 0.8
    greedy = answers(tiny, prompts, runs=3)
    assert all(greedy[prompt.item, 0] == greedy[prompt.item, run] for prompt in prompts for run in (1, 2))


def test_two_prompts_alike_of_two_items_are_answered_apart(tiny):
    answered = answers(tiny, [Prompt("one", [60, 61, 62]), Prompt("two", [60, 61, 62])], temperature=1.0)
    assert answered["one", 0] != answered["two", 0]


def test_stop_tokens_end_an_answer(tiny):
    model, tokenizer, _ = tiny
    (prompt,) = random_prompts(1, shortest=5)
    text, tokens, finished = answers(tiny, [prompt], stops=[tokenizer.eos_token_id])["item 0", 0]
    assert (tokens, finished) == (12, False)
    ids = model.generate(torch.tensor([prompt.ids]), do_sample=False, max_new_tokens=12, eos_token_id=-1)
    ids = ids[0, len(prompt.ids) :].tolist()
    assert text == tokenizer.decode(ids, skip_special_tokens=True).strip()
    # Whichever token comes third is made the one that ends an answer.
    stop = ids[2]
    first = ids.index(stop)
    ended = answers(tiny, [prompt], stops=[stop])["item 0", 0]
    assert ended == (tokenizer.decode(ids[:first], skip_special_tokens=True).strip(), first + 1, True)


@pytest.mark.parametrize("limit", [1, 5])
def test_answers_are_cut_off(tiny, limit):
    answered = answers(tiny, random_prompts(20), max_new_tokens=limit)
    assert all(tokens <= limit for _, tokens, _ in answered.values())
    unfinished = [tokens for _, tokens, finished in answered.values() if not finished]
    assert unfinished and set(unfinished) == {limit}


def test_noise_is_standard_gumbel():
    keys = torch.tensor([key(42, run, f"item {n}") for run in range(2) for n in range(50)])
    noise = gumbel_noise(keys, 3, 10_000).double()
    assert noise.shape == (100, 10_000) and torch.isfinite(noise).all()
    # A million draws: the mean's standard error is 0.0013, the variance's about 0.0034.
    assert noise.mean().item() == pytest.approx(0.5772157, abs=0.006)
    assert noise.var().item() == pytest.approx(math.pi**2 / 6, abs=0.017)
    for quantile in (0.01, 0.25, 0.5, 0.75, 0.99):
        below = (noise < -math.log(-math.log(quantile))).double().mean().item()
        assert below == pytest.approx(quantile, abs=5 * math.sqrt(quantile * (1 - quantile) / 1e6))
    # Neighbours in a row, in a column and in position go apart.
    later = gumbel_noise(keys, 4, 10_000).double()
    for one, two in ((noise[:, :-1], noise[:, 1:]), (noise[:-1], noise[1:]), (noise, later)):
        assert abs(torch.corrcoef(torch.stack([one.flatten(), two.flatten()]))[0, 1]) < 0.005


def test_noise_is_keyed():
    one = gumbel_noise(torch.tensor([key(42, 0, "a"), key(42, 0, "b")]), 5, 100)
    assert torch.equal(gumbel_noise(torch.tensor([key(42, 0, "b")]), 5, 100)[0], one[1])
    assert torch.equal(gumbel_noise(torch.tensor([key(42, 0, "a")]), 5, 60)[0], one[0, :60])
    for other in (key(43, 0, "a"), key(42, 1, "a"), key(42, 0, "c")):
        assert not torch.isin(gumbel_noise(torch.tensor([other]), 5, 100), one).any()
    assert not torch.isin(gumbel_noise(torch.tensor([key(42, 0, "a")]), 6, 100), one).any()


def test_noise_is_pinned():
    """Changed noise would change every sampled score: never do that unawares."""
    assert key(42, 0, "recipe:Banana Cake") == GOLDEN_KEY
    noise = gumbel_noise(torch.tensor([GOLDEN_KEY]), 0, 3)[0].tolist()
    assert noise == pytest.approx(GOLDEN_NOISE, abs=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_are_drawn_from_the_softmax(temperature):
    logits = torch.tensor([2.0, 1.0, 0.5, 0.0, -1.0])
    draws = 40_000
    keys = torch.tensor([key(7, 0, f"item {n}") for n in range(draws)])
    processor = KeyedGumbel(keys, prompt_length=4, temperature=temperature)
    scores = processor(torch.zeros(draws, 6, dtype=torch.long), logits.repeat(draws, 1))
    counted = torch.bincount(scores.argmax(-1), minlength=5).double()
    expected = torch.softmax(logits.double() / temperature, 0) * draws
    chi_square = ((counted - expected) ** 2 / expected).sum().item()
    assert chi_square < 23.5  # 4 degrees of freedom: exceeded by chance once in 10,000 tries


def stopped_after(monkeypatch, module, calls):
    """Have the module's generating be interrupted after so many calls that ended."""
    real, ended = module._batch, []

    def batch(*arguments):
        if len(ended) == calls:
            raise KeyboardInterrupt
        ended.append(real(*arguments))
        return ended[-1]

    monkeypatch.setattr(module, "_batch", batch)


@pytest.mark.parametrize("calls", [0, 1, 2])
def test_a_stopped_run_goes_on_with_the_same_bits_in_16_of_them(tmp_path, monkeypatch, calls):
    """Whole batches are kept, of the same division: an answer in bfloat16 may depend on its batch."""
    base = save_model(tmp_path / "model", spread=0.35)
    tokenizer, model = load_tokenizer(base), load_model(base, "bfloat16", "cpu")
    tiny = model.eval(), tokenizer, stop_token_ids(tokenizer, model)
    prompts = random_prompts(20)
    options = {"runs": 2, "temperature": 0.9, "batch_size": 8}
    whole = answers(tiny, prompts, **options)

    with monkeypatch.context() as patched:
        stopped_after(patched, transformers_generate, calls)
        with pytest.raises(KeyboardInterrupt):
            answers(tiny, prompts, **options, kept=KeptResults(tmp_path / "kept"))
    kept = KeptResults(tmp_path / "kept")
    assert kept.there("answers") == calls * 8 * 2
    with monkeypatch.context() as patched:
        stopped_after(patched, transformers_generate, 3 - calls)  # no more than what is missing
        assert answers(tiny, prompts, **options, kept=kept) == whole
    assert kept.used["answers"] == calls * 8 * 2 and (kept.seconds > 0) == (calls > 0)
    # Another division, or other sampling, takes none of them.
    for other in ({"batch_size": 7}, {"temperature": 0.8}, {"seed": 43}, {"max_new_tokens": 11}):
        kept = KeptResults(tmp_path / "kept")
        answers(tiny, prompts, **{**options, **other}, kept=kept)
        assert kept.used["answers"] == 0
