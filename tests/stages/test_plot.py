"""The figure of the gain is drawn from plots/gain.csv as the stage evaluate writes it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from sft.core.errors import UserError
from sft.core.files import write_csv
from sft.evaluation.gain_table import as_rows
from sft.plotting.gain import title
from sft.statistics.gains import Gain
from sft.statistics.significance import Outcome
from stages import gain_file, paths, plot

FEW = Gain("recipe", "rouge1", 0.2, 0.4, 0.2, None, None, None, Outcome.NOT_JUDGED, "recipe has 3 examples")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / paths.GAIN).parent.mkdir()
    with contextlib.chdir(tmp_path):
        write_csv(paths.GAIN, as_rows([FEW]))
        yield tmp_path


def test_the_title_says_why_nothing_was_judged() -> None:
    gains = gain_file.read_gains()
    assert gains == [FEW]
    assert title(gains)[1] == "Not judged against the base model: recipe has 3 examples."


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (",verdict", ",judgement", "it has no column 'verdict'"),
        (",0.2,", ",zero,", "could not convert string to float: 'zero'"),
        ("not judged", "undecided", "'undecided' is not a valid Outcome"),
        (",rouge1", ",gone", "'gone' is no metric"),
        (",0.4,0.2,,,,not judged,recipe has 3 examples", "", "must be"),
    ],
)
def test_a_damaged_file_is_named(folder: Path, old: str, new: str, said: str) -> None:
    path = folder / paths.GAIN
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(UserError, match=r"^plots/gain.csv: damaged, .*dvc repro evaluate$") as caught:
        plot.plot_gain(50)
    assert said in str(caught.value)
