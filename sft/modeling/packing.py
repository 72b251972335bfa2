"""Rows end to end in one sequence, and how a step's rows are cut into such sequences."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sft.modeling.labels import IGNORED, loss_tokens


@dataclass(frozen=True)
class Shape:
    """What a pack is filled up to, so that packs of other rows have the same sizes.

    `longest` bounds the rows, the one that fills the pack up included: attention launches work for rows of
    that length, however short they are.
    """

    tokens: int
    rows: int
    loss_tokens: int
    longest: int


@dataclass
class Packed:
    """Rows end to end on one device.

    `input_ids`, `positions`: (1, tokens), positions counting from 0 in each row. `boundaries`: int32
    (rows + 1,), where each row begins, and the end. `lengths`: the rows' lengths. `predicting`: int64
    (loss tokens,), the positions whose next token the loss is taken over. `targets`: those next tokens.

    Filled up to a shape, the tokens are followed by one more row, of the pack's own tokens and positions,
    the boundaries by rows of no tokens, and the loss tokens by the last token's target, which is IGNORED.
    """

    input_ids: torch.Tensor
    positions: torch.Tensor
    boundaries: torch.Tensor
    lengths: list[int]
    predicting: torch.Tensor
    targets: torch.Tensor
    longest: int

    def copy_(self, other: "Packed") -> None:
        """Take over another pack of the same shape."""
        for name in ("input_ids", "positions", "boundaries", "predicting", "targets"):
            getattr(self, name).copy_(getattr(other, name))
        self.lengths = other.lengths

    def inputs(self) -> dict[str, Any]:
        """Return the arguments of a decoder's forward, and `row_lengths` for packed_attention."""
        return {
            "input_ids": self.input_ids,
            "position_ids": self.positions,
            "use_cache": False,
            "cu_seq_lens_q": self.boundaries,
            "max_length_q": self.longest,
            "row_lengths": self.lengths,
        }


def pack(rows: list[dict[str, Any]], device: Any, shape: Shape | None = None) -> Packed:
    """Put rows of `input_ids` and `labels` end to end, in their order, and fill them up to `shape`.

    Raises ValueError for a row that is longer than the shape's rows: attention would leave its end out.
    """
    ids = [np.asarray(row["input_ids"], dtype=np.int64) for row in rows]
    lengths = [len(row) for row in ids]
    targets = []
    for row in rows:
        labels = np.asarray(row["labels"], dtype=np.int64)
        # A row's last token predicts nothing, least of all the next row.
        targets += [labels[1:], np.array([IGNORED])]
    target = np.concatenate(targets)
    predicting = np.flatnonzero(target != IGNORED)
    target = target[predicting]
    boundaries = np.cumsum([0, *lengths], dtype=np.int32)
    longest = max(lengths)
    positions = [np.arange(length) for length in lengths]
    if shape:
        if gap := shape.tokens - sum(lengths):
            # Tokens and positions such as the model knows, so that nothing overflows.
            ids.append(np.resize(np.concatenate(ids), gap))
            positions.append(np.arange(gap) % longest)
            lengths = [*lengths, gap]
        if max(lengths) > shape.longest:
            raise ValueError(f"a row of {max(lengths)} tokens in a shape for {shape.longest} at most")
        longest = shape.longest
        boundaries = _filled(boundaries, shape.rows + 2, shape.tokens)
        predicting = _filled(predicting, shape.loss_tokens, shape.tokens - 1)
        target = _filled(target, shape.loss_tokens, IGNORED)

    def moved(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values).to(device, non_blocking=True)

    return Packed(
        moved(np.concatenate(ids)[None]),
        moved(np.concatenate(positions)[None]),
        moved(boundaries),
        lengths,
        moved(predicting),
        moved(target),
        longest,
    )


def _filled(values: np.ndarray, length: int, value: int) -> np.ndarray:
    return np.pad(values, (0, length - len(values)), constant_values=value)


def shape_for(rows: list[dict[str, Any]], most_rows: int, longest: int) -> Shape:
    """Return the shape for these rows, `most_rows` at most and of `longest` tokens at most.

    Tokens are rounded up to eight sizes an octave (6% more on average), loss tokens to quarters of that.
    """
    tokens = sum(len(row["input_ids"]) for row in rows)
    counted = sum(loss_tokens(row["labels"]) for row in rows)
    grain = max(32, 2 ** (tokens.bit_length() - 4))
    filled = -(-tokens // grain) * grain
    quarter = filled // 4
    return Shape(filled, most_rows, -(-counted // quarter) * quarter, min(filled, max(longest, grain)))


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
