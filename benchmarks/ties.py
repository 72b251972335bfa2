"""How many greedy answers depend on what they are batched with? On the real SmolLM2-135M and its hold-out.

In bfloat16, sums over another batch can round another way; where two tokens score alike, the answer then
goes on differently. Counts the answers that differ from those written one prompt at a time.

Run as `python -m benchmarks.ties` in a workspace whose data/holdout/evaluation.parquet exists, on an NVIDIA
GPU.
"""

from typing import Any

import pyarrow.compute as pc

from benchmarks.material import SMOLLM2
from sft.core.files import read_parquet
from sft.core.params import load, mapping
from sft.modeling.loading import load_model, load_tokenizer, resolve, stop_token_ids
from sft.tasks.task import TaskParams, tasks_of
from stages.cli import PARAMS
from stages.paths import EVALUATION

EXAMPLES = 100
NEW_TOKENS = 128
BATCHES: list[int | str] = [1, 8, 64, "auto"]


def main() -> None:
    """Answer greedily in each batch size and print the table."""
    from sft.generation.generate import Prompt, generate
    from sft.modeling.chat_template import prompt_ids

    base = resolve(SMOLLM2)
    tokenizer = load_tokenizer(base)
    model = load_model(base, "bfloat16").eval()
    stops = stop_token_ids(tokenizer, model)
    tasks = tasks_of(mapping(load(PARAMS), "tasks", TaskParams))
    pool = read_parquet(EVALUATION)
    prompts = [
        Prompt(row["item"], prompt_ids(tokenizer, row["prompt"]))
        for task in tasks
        for row in pool.filter(pc.equal(pool["task"], task.name)).slice(0, EXAMPLES).to_pylist()
    ]
    written = {}
    for size in BATCHES:
        answers: Any = generate(
            model,
            tokenizer,
            stops,
            prompts,
            runs=1,
            seed=0,
            temperature=0.0,
            max_new_tokens=NEW_TOKENS,
            batch_size=size,  # type: ignore[arg-type]
        )
        written[size] = {answer.prompt: answer.text for part in answers for answer in part}
    print("| prompts at a time | answers | differ from those one at a time |\n|---|---|---|")
    for size in BATCHES[1:]:
        count = sum(written[size][n] != text for n, text in written[1].items())
        print(f"| {size} | {len(prompts)} | {count} |")


if __name__ == "__main__":
    main()
