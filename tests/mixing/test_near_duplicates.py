"""Near-duplicates are the pairs that comparing every row with every other finds, no fewer and no more."""

import errno
import random
from pathlib import Path

import numpy as np
import pytest

from sft.mixing import candidates as comparing
from sft.mixing import near_duplicates as module
from sft.mixing import word_ngrams
from sft.mixing.candidates import Candidates
from sft.mixing.minhash import PERMUTATIONS, SHINGLE, banding, sign
from sft.mixing.near_duplicates import near_duplicates
from tests.tiny import dialogue, table


def texts():
    """Make 40 texts of 60 words, and of each three more with 1 to 9 of its words changed."""
    generator = random.Random(0)
    made = []
    for _ in range(40):
        original = [f"w{generator.randrange(10**6)}" for _ in range(60)]
        made.append(original)
        for _ in range(3):
            changed = list(original)
            for place in generator.sample(range(60), generator.randint(1, 9)):
                changed[place] = f"x{generator.randrange(10**6)}"
            made.append(changed)
    return [" ".join(text) for text in made]


@pytest.mark.parametrize("threshold", [0.5, 0.65, 0.8])
def test_what_brute_force_finds(threshold):
    messages = table([dialogue("Say it.", text) for text in texts()])["messages"]
    shingles = []
    for batch in word_ngrams.of(messages):
        grams = batch.grams(SHINGLE)
        shingles += [set(grams.hashes[grams.row == row].tolist()) for row in range(len(batch))]
    kept, expected, near = [], [], 0
    for row, own in enumerate(shingles):
        alike = {other: len(own & shingles[other]) / len(own | shingles[other]) for other in kept}
        near += sum(threshold - 0.1 <= value < threshold for value in alike.values())
        if not any(value >= threshold for value in alike.values()):
            kept.append(row)
        else:
            expected.append(row)
    match, similarity = near_duplicates(messages, threshold)
    assert np.flatnonzero(match >= 0).tolist() == expected and 20 < len(expected) < 120
    assert near > 5  # pairs just below the threshold, which have to stay
    assert (similarity[expected] >= threshold).all() and set(match[expected]) <= set(kept)


@pytest.mark.parametrize("threshold", [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0])
def test_bands_find_what_is_as_like_as_the_threshold(threshold: float) -> None:
    bands, width = banding(threshold)
    assert bands * width <= PERMUTATIONS and (1 - threshold**width) ** bands <= 0.001


def test_components_that_are_compared_apart_change_nothing(monkeypatch):
    """Small groups and blocks; half of the rows repeat one another: a component larger than a group."""
    alike = [" ".join(f"v{n}" for n in range(50)) + f" u{k}" for k in range(150)]
    messages = table([dialogue("Say it.", text) for text in [*texts(), *alike]])["messages"]
    match, similarity = near_duplicates(messages, 0.8)
    assert (match[160:] >= 0).sum() == 149
    written = []
    groups = module._groups
    monkeypatch.setattr(module, "_groups", lambda *given: written.append(groups(*given)) or written[-1])
    monkeypatch.setattr(module, "_GROUP", 8)
    monkeypatch.setattr(comparing, "_BLOCK", 16)
    found = near_duplicates(messages, 0.8)
    assert found[0].tolist() == match.tolist() and found[1].tolist() == similarity.tolist()
    assert len(written[0]) > 5


def test_nothing_alike_and_nothing_at_all():
    messages = table([dialogue(f"a{n} b{n} c{n}", f"d{n}") for n in range(5)])["messages"]
    for rows in (messages, messages.slice(0, 0)):
        match, similarity = near_duplicates(rows, 0.8)
        assert match.tolist() == [-1] * len(rows) and not similarity.any()


@pytest.mark.parametrize("name", ["slots", "bands"])
def test_a_full_disk_is_told_as_such(tmp_path: Path, name: str) -> None:
    (tmp_path / f"0.{name}").symlink_to("/dev/full")
    messages = table([dialogue("Say it.", text) for text in texts()])["messages"]
    with pytest.raises(OSError, match="No space left") as caught:
        sign(messages, 0.8, tmp_path / "0")
    assert caught.value.errno == errno.ENOSPC
    arrays = np.zeros((100, PERMUTATIONS), np.uint8), np.zeros((100, 9), np.int64), np.ones(100, int)
    with pytest.raises(OSError, match="No space left"):
        Candidates.write(tmp_path / "0", *arrays)
    with pytest.raises(OSError, match="No space left") as caught:
        comparing.save(Path("/dev/full"), arrays[0])
    assert caught.value.errno == errno.ENOSPC
