"""What stages have kept under .dvc/tmp/work of what they had done: see stages/work.py."""

from pathlib import Path

WORK = Path(".dvc/tmp/work")


def unfinished() -> list[Path]:
    """Return the folders of stages that were stopped.

    Beside that of a stage that has succeeded there is a file `.finished`: it goes when DVC has recorded that.
    """
    folders = [path for path in sorted(WORK.glob("*/*")) if path.is_dir()]
    return [path for path in folders if not path.with_name(f"{path.name}.finished").exists()]


def of_unfinished() -> list[Path]:
    """Return the folders of stages that were stopped, and the files that lie beside these."""
    folders = unfinished()
    return [path for path in sorted(WORK.glob("*/*")) if path.with_suffix("") in folders]


def of_finished() -> list[Path]:
    """Return what is left of stages that have succeeded: their folders, and the files beside them."""
    kept = set(of_unfinished())
    return [path for path in sorted(WORK.glob("*/*")) if path not in kept]
