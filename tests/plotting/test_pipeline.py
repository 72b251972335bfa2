"""Figures: equal numbers give equal bytes, in any process, and every number is drawn."""

import os
import struct
import subprocess
import sys

import pytest

from sft.plotting import pipeline
from tests.imports import ROOT
from tests.tiny import folder_bytes

TRAIN = [{"step": float(n), "loss": 3.0 - n / 20} for n in range(1, 41)]
VALIDATION = [{"step": 0.0, "loss": 3.1}, {"step": 40.0, "loss": 2.0}]
COUNTS = {"recipes": 70_000, "questions": 30_000}
LENGTHS = [3, 20, 21, 22, 90, 400, 513, 2_000]


def metrics(score):
    return {
        task: {"rouge1": score, "rouge2": score / 2, "rougeL": score, "bits_per_byte": 1.0}
        for task in ("average", "recipe", "question")
    }


def draw(folder, dpi=50):
    pipeline.loss_curves(folder / "loss.png", TRAIN, VALIDATION, dpi)
    pipeline.rouge_bars(folder / "rouge.png", metrics(0.2), metrics(0.4), dpi)
    pipeline.composition(folder / "composition.png", COUNTS, dpi)
    pipeline.token_lengths(folder / "lengths.png", LENGTHS, 512, dpi)


def size(png):
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    return struct.unpack(">II", png[16:24])


def test_pictures_are_the_same_in_every_process(tmp_path):
    program = (
        "import sys, pathlib; from tests.plotting.test_pipeline import draw; draw(pathlib.Path(sys.argv[1]))"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / hash_seed)],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
        )
        for hash_seed in ("1", "2")
    ]
    assert [process.wait() for process in running] == [0, 0]
    one, two = (folder_bytes(tmp_path / hash_seed) for hash_seed in ("1", "2"))
    assert sorted(one) == ["composition.png", "lengths.png", "loss.png", "rouge.png"]
    assert one == two
    draw(tmp_path / "here")
    assert folder_bytes(tmp_path / "here") == one
    assert not any(b"matplotlib" in png.lower() for png in one.values())


def test_dots_an_inch(tmp_path):
    for dpi in (40, 80):
        draw(tmp_path / str(dpi), dpi)
    small, large = (folder_bytes(tmp_path / str(dpi)) for dpi in (40, 80))
    for name in small:
        assert size(large[name]) == pytest.approx([2 * n for n in size(small[name])], abs=1)


def test_each_number_is_drawn(tmp_path):
    """A change of any one number changes the picture."""
    draw(tmp_path)
    before = folder_bytes(tmp_path)
    pipeline.loss_curves(tmp_path / "loss.png", TRAIN, [VALIDATION[0], {"step": 40.0, "loss": 2.2}], 50)
    changed = metrics(0.4)
    changed["question"]["rougeL"] = 0.3
    pipeline.rouge_bars(tmp_path / "rouge.png", metrics(0.2), changed, 50)
    pipeline.composition(tmp_path / "composition.png", {**COUNTS, "questions": 30_001}, 50)
    pipeline.token_lengths(tmp_path / "lengths.png", LENGTHS, 513, 50)
    after = folder_bytes(tmp_path)
    assert [name for name in before if before[name] == after[name]] == []


def test_few_steps_and_few_lengths(tmp_path):
    pipeline.loss_curves(tmp_path / "loss.png", TRAIN[:1], VALIDATION[:1], 50)
    pipeline.token_lengths(tmp_path / "lengths.png", [7], 512, 50)
    pipeline.composition(tmp_path / "composition.png", {"one": 1}, 50)
    assert all(map(size, folder_bytes(tmp_path).values()))


@pytest.mark.parametrize("longest", [1, 2, 3, 7, 64, 90, 2_047, 2_048, 100_000])
def test_length_edges(longest):
    edges = pipeline.length_edges(longest)
    assert edges[0] == 1 and edges == sorted(set(edges)) and edges[-1] > longest
    assert len(edges) == 1 or edges[-2] <= longest
    assert {2**n for n in range(3, 18) if 2**n <= longest} <= set(edges)


@pytest.mark.parametrize(("count", "wider"), [(1, True), (9, False)])
def test_rouge_of_any_number_of_tasks(tmp_path, count, wider):
    """Of nine tasks the panels stand below each other, so that every number has room."""
    scores = {
        task: {"rouge1": 0.2, "rouge2": 0.1, "rougeL": 0.2}
        for task in ["average", *(f"a_task_with_a_long_name_{n}" for n in range(count))]
    }
    pipeline.rouge_bars(tmp_path / "rouge.png", scores, scores, 50)
    width, height = size((tmp_path / "rouge.png").read_bytes())
    assert width <= 600 and (width > 2 * height) == wider
