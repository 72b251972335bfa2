"""The first import of transformers: without the garbage collector, which is then as it was."""

import gc
import sys
from pathlib import Path

import pytest

from sft.modeling.first_import import import_transformers

IMPORTED = "import gc\nassert not gc.isenabled()\nAutoModelForCausalLM = AutoTokenizer = object()\n"


@pytest.fixture
def transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file of a module of this name, which has not been imported yet."""
    monkeypatch.delitem(sys.modules, "transformers", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "transformers.py"


def test_what_is_imported_is_not_looked_at(transformers: Path) -> None:
    transformers.write_text(IMPORTED)
    # Frozen objects that other threads let go of leave the count: by a few, not by a thousand.
    before, made = gc.get_freeze_count(), [[] for _ in range(10_000)]
    import_transformers()
    assert gc.isenabled() and gc.get_freeze_count() > before + len(made) // 2
    # What comes later can become garbage: a model, for instance.
    before, later = gc.get_freeze_count(), [[] for _ in range(10_000)]
    import_transformers()
    assert gc.get_freeze_count() < before + len(later) // 2


def test_an_import_that_fails_leaves_the_collector_on(transformers: Path) -> None:
    transformers.write_text("raise ImportError('broken')")
    with pytest.raises(ImportError, match="broken"):
        import_transformers()
    assert gc.isenabled()
