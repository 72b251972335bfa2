"""The rows of one kind: in which order they are read, and how far they have been."""

from collections import Counter, deque
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from sft.core.seeded_order import order_of_copies
from sft.training.refusals import Refusals
from sft.training.tokenizing import Tokenized


class KindRows:
    """The rows of one kind in seeded order, epoch after epoch, and how far they have been read.

    `tokenized` has rows that other processes have tokenized, `block` rows as Python objects, and `coming` the
    places of those behind both, which are fetched, or about to be.
    """

    def __init__(self, places: np.ndarray, ids: pa.ChunkedArray, seed: int, epochs: Iterable[int]) -> None:
        self.size, self.usable = len(places), False
        self.left_out: Counter[str] = Counter()
        self.refusals = Refusals()
        self.coming: np.ndarray = np.empty(0, np.int64)
        self._epoch: np.ndarray = np.empty(0, np.int64)
        self.block: deque[dict[str, Any]] = deque()
        self.tokenized: deque[Tokenized] = deque()
        self._epochs = (_in_order(places, ids, f"{seed}:{epoch}") for epoch in epochs)

    def look_ahead(self, rows: int) -> None:
        """Have the places of so many rows in `coming`; there are fewer where no epoch is left."""
        places = [self.coming]
        missing = rows - len(self.coming)
        while missing > 0:
            if not len(self._epoch):
                epoch = next(self._epochs, None)
                if epoch is None:
                    break
                self._epoch = epoch
            places.append(self._epoch[:missing])
            self._epoch = self._epoch[missing:]
            missing -= len(places[-1])
        self.coming = np.concatenate(places)

    def take(self, rows: int) -> np.ndarray:
        """Return the places of the next rows of `coming`."""
        taken, self.coming = self.coming[:rows], self.coming[rows:]
        return taken


def _in_order(places: np.ndarray, ids: pa.ChunkedArray, seed: str) -> np.ndarray:
    of_places = ids if len(places) == len(ids) else ids.take(pa.array(places))
    return places[order_of_copies(seed, of_places)]
