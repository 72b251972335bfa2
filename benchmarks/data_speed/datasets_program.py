"""What the stages are measured against: rows to messages, shuffled, a part of them chosen, by `datasets`.

It hashes, deduplicates and holds out nothing. All that is not said is as `datasets` has it.

Run as `python -m benchmarks.data_speed.datasets_program SOURCE TARGET SIZE PROCESSES`.
"""

import sys
from typing import Any

from datasets import load_dataset

ROLES = {"human": "user", "gpt": "assistant"}
SEED = 42


def main() -> None:
    """Write SIZE rows of the Parquet file SOURCE, as messages and in random order, to the file TARGET."""
    source, target, size, processes = sys.argv[1:]
    rows = load_dataset("parquet", data_files=source, split="train")
    rows = rows.map(messages, batched=True, num_proc=int(processes), remove_columns=["conversations"])
    rows.shuffle(seed=SEED).select(range(int(size))).to_parquet(target)


def messages(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Turn conversations of from and value into messages of role and content."""
    return {
        "messages": [
            [{"role": ROLES[turn["from"]], "content": turn["value"]} for turn in conversation]
            for conversation in batch["conversations"]
        ]
    }


if __name__ == "__main__":
    main()
