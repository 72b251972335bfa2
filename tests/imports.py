"""Which of the project's modules a script imports, directly and through others, wherever in the file."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("sft", "stages", "app")


def closure(script: Path) -> set[str]:
    """Return the repository paths of `script` and of all modules of ours that it imports."""
    found: set[Path] = set()
    waiting = [script]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting.extend(imported_files(path))
    return {str(path.relative_to(ROOT)) for path in found if has_code(path)}


def imported_files(path: Path) -> set[Path]:
    files: set[Path] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports are not followed"
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            if name.split(".")[0] in PACKAGES:
                files |= module_files(name)
    return files


def module_files(name: str) -> set[Path]:
    """Return the file of module `name` and the __init__ files that importing it runs."""
    parts = name.split(".")
    files = {ROOT.joinpath(*parts[:n], "__init__.py") for n in range(1, len(parts) + 1)}
    files.add(ROOT.joinpath(*parts).with_suffix(".py"))
    return {file for file in files if file.exists()}


def has_code(path: Path) -> bool:
    """Tell whether a file holds more than a docstring (an __init__ without code decides nothing)."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return any(not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)) for node in body)
