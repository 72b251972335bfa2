"""What ruff's rules (S, in pyproject.toml) do not see of how the project's code treats foreign files."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from sft.modeling.weights import LOCAL
from tests.imports import ROOT

FILES = [
    path for room in ("sft", "stages", "app", "scripts", "benchmarks") for path in (ROOT / room).rglob("*.py")
]
OF_MODELS = (
    "Auto",
    "Fast",
)  # the classes that would run a repository's code: AutoTokenizer, FastLanguageModel


def calls(path: Path) -> Iterator[tuple[str, str, dict[str, ast.expr]]]:
    """Yield where each call of a file stands, what it calls and its keyword arguments; **LOCAL is LOCAL."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            keywords = {keyword.arg or ast.unparse(keyword.value): keyword.value for keyword in node.keywords}
            yield f"{path.relative_to(ROOT)}:{node.lineno}", ast.unparse(node.func), keywords


def is_value(node: ast.expr | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def wrong(path: Path) -> Iterator[str]:
    """Yield where a file lets a model's code run, or reads a pickle."""
    for place, called, keywords in calls(path):
        *of, name = called.split(".")
        if name == "from_pretrained" and of and of[-1].startswith(OF_MODELS):
            if not ("LOCAL" in keywords or is_value(keywords.get("trust_remote_code"), False)):
                yield f"{place}: {called} without trust_remote_code=False"
        elif "trust_remote_code" in keywords and not is_value(keywords["trust_remote_code"], False):
            yield f"{place}: trust_remote_code"
        if called == "torch.load" and not is_value(keywords.get("weights_only"), True):
            yield f"{place}: torch.load without weights_only=True"
        if "allow_pickle" in keywords and not is_value(keywords["allow_pickle"], False):
            yield f"{place}: allow_pickle"


def test_no_foreign_code_is_run() -> None:
    assert LOCAL["trust_remote_code"] is False
    assert [fault for path in FILES for fault in wrong(path)] == []


@pytest.mark.parametrize(
    "code",
    [
        "AutoTokenizer.from_pretrained(folder)",
        "transformers.AutoModel.from_pretrained(folder, trust_remote_code=True)",
        "FastLanguageModel.from_pretrained(folder, **options)",
        "HFLM(model, trust_remote_code=some)",
        "torch.load(path)",
        "np.load(path, allow_pickle=True)",
    ],
)
def test_faults_are_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str) -> None:
    monkeypatch.setattr("tests.test_source_safety.ROOT", tmp_path)
    (tmp_path / "some.py").write_text(code)
    assert len(list(wrong(tmp_path / "some.py"))) == 1
