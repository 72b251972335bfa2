"""How long scripts.inspect takes on 100,000 ShareGPT rows, as a process of its own.

The rows are random words of a skewed distribution, 1 to 3 questions of some 30 words and answers of some 70.
Run as `python -m benchmarks.inspect_speed`; on a machine with more cores, `taskset -c 0,1` before it.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROWS = 100_000
WORDS = 20_000
SPOKEN = (("human", 30), ("gpt", 70))


def main() -> None:
    """Write the rows, inspect them, and print the size and the seconds."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        write(path)
        started = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "scripts.inspect", str(path)], check=True, stdout=subprocess.DEVNULL
        )
        seconds = time.monotonic() - started
        print(f"{ROWS:,} rows, {path.stat().st_size / 1e6:.0f} MB: {seconds:.1f} s")


def write(path: Path) -> None:
    """Write the same rows every time."""
    random = np.random.default_rng(0)
    letters = [random.integers(97, 123, random.integers(2, 10), np.uint8) for _ in range(WORDS)]
    words = [word.tobytes().decode() for word in letters]
    weights = 1 / np.arange(1, WORDS + 1)
    weights /= weights.sum()
    with path.open("w", encoding="utf-8") as file:
        for _ in range(ROWS):
            turns = [
                {
                    "from": who,
                    "value": " ".join(
                        words[n] for n in random.choice(WORDS, 3 + int(random.gamma(2, mean / 2)), p=weights)
                    ),
                }
                for _ in range(random.integers(1, 4))
                for who, mean in SPOKEN
            ]
            file.write(json.dumps({"conversations": turns}) + "\n")


if __name__ == "__main__":
    main()
