"""Rows end to end in one sequence, without padding, and how a step's rows are cut into such sequences."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sft.labels import IGNORED


@dataclass
class Packed:
    """Rows end to end on one device.

    `input_ids`, `positions`: (1, tokens), positions counting from 0 in each row. `boundaries`: int32
    (rows + 1,), where each row begins, and the end. `lengths`: the rows' lengths. `predicting`: int64
    (loss tokens,), the positions whose next token the loss is taken over. `targets`: those next tokens.
    """

    input_ids: torch.Tensor
    positions: torch.Tensor
    boundaries: torch.Tensor
    lengths: list[int]
    predicting: torch.Tensor
    targets: torch.Tensor

    def inputs(self) -> dict[str, Any]:
        """Return the arguments of a decoder's forward: transformers' names and, beside them, Unsloth's."""
        return {
            "input_ids": self.input_ids,
            "position_ids": self.positions,
            "use_cache": False,
            "cu_seq_lens_q": self.boundaries,
            "max_length_q": max(self.lengths),
            "row_lengths": self.lengths,
            "packed_seq_lengths": torch.tensor(self.lengths, dtype=torch.int32),
        }


def pack(rows: list[dict[str, Any]], device: Any) -> Packed:
    """Put rows of `input_ids` and `labels` end to end, in their order."""
    ids = [np.asarray(row["input_ids"], dtype=np.int64) for row in rows]
    lengths = [len(row) for row in ids]
    targets = []
    for row in rows:
        labels = np.asarray(row["labels"], dtype=np.int64)
        # A row's last token predicts nothing, least of all the next row.
        targets += [labels[1:], np.array([IGNORED])]
    target = np.concatenate(targets)
    predicting = np.flatnonzero(target != IGNORED)
    boundaries = np.cumsum([0, *lengths], dtype=np.int32)

    def moved(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values).to(device, non_blocking=True)

    return Packed(
        moved(np.concatenate(ids)[None]),
        moved(np.concatenate([np.arange(length) for length in lengths])[None]),
        moved(boundaries),
        lengths,
        moved(predicting),
        moved(target[predicting]),
    )


def cut(lengths: list[int], tokens: int) -> list[list[int]]:
    """Share rows, given by their lengths, out to as few parts of at most `tokens` tokens as will do.

    Parts are as even as longest-first dealing makes them, since all of a step's parts cost memory alike.
    A single row that is longer than `tokens` is a part of its own. Returns places in `lengths`.
    """
    longest_first = sorted(range(len(lengths)), key=lambda n: (-lengths[n], n))
    least = max(1, -(-sum(lengths) // tokens))
    for count in range(least, len(lengths) + 1):
        parts: list[list[int]] = [[] for _ in range(count)]
        filled = [0] * count
        for n in longest_first:
            part = filled.index(min(filled))
            parts[part].append(n)
            filled[part] += lengths[n]
        if max(filled) <= max(tokens, max(lengths)):
            return [part for part in parts if part]
    return [[n] for n in longest_first]
