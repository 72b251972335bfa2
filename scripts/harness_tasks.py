"""The tasks of EleutherAI's lm-eval, their data of the hub at pinned commits."""

import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts import compat
from sft.core.errors import UserError

# Commits of the hub's data sets that the best-known tasks read; of any other, --pin says which.
PINS = {
    "allenai/ai2_arc": "210d026faf9955653af8916fad021475a3f00453",
    "cais/mmlu": "c30699e8356da336a370243923dbaf21066bb9fe",
    "google/IFEval": "966cd89545d6b6acfd7638bc708b98261ca58e84",
    "openai/gsm8k": "740312add88f781978c0658806c59bc2815b9866",
    "Rowan/hellaswag": "218ec52e09a7e7462a5400043bb9a69a41d06b76",
}
_PIN = re.compile(r"([\w.-]+(?:/[\w.-]+)?)@([0-9a-f]{40})")


@dataclass(frozen=True)
class Tasks:
    """Tasks and groups, as named and as lm-eval takes them, and the commits of the hub's data sets."""

    names: list[str]
    objects: list[Any]
    data: dict[str, str]
    manager: Any  # lm-eval's TaskManager, which knows where they lie


def pins_of(given: Sequence[str]) -> dict[str, str]:
    """Return the commits by data set: those of PINS, and those `given` as DATASET@COMMIT.

    Raises UserError for what has another form.
    """
    pins = dict(PINS)
    for text in given:
        if not (match := _PIN.fullmatch(text)):
            raise UserError(f"--pin {text}: write DATASET@COMMIT, the commit as 40 hex digits.")
        pins[match[1]] = match[2]
    return pins


def load(names: Sequence[str], include_path: str | None, pins: Mapping[str, str]) -> Tasks:
    """Load tasks, groups and tags by name, those of the YAML files under `include_path` too, with their data.

    Raises UserError for an unknown name, data that has no pin or cannot be fetched, and a task that lm-eval
    cannot load.
    """
    if include_path is not None and not Path(include_path).is_dir():
        raise UserError(
            f"--include-path {include_path}: no such folder. Name one that holds tasks' YAML files."
        )
    manager = _manager(names, include_path)
    for name in names:
        if name not in manager.task_index:
            raise UserError(_unknown(name, manager.all_tasks, include_path))
    names = list(dict.fromkeys(names))
    with _pinned(pins) as read:
        try:
            loaded = manager.load(names)
        except UserError:
            raise
        # What lm-eval, a task's own code and the data sets' library may raise has no common base.
        except Exception as error:
            raise UserError(
                f"{', '.join(names)}: lm-eval cannot load this: {in_a_line(error)} See the task's YAML file, "
                "and what packages its README asks for."
            ) from error
    groups, tasks = loaded.get("groups", {}), loaded["tasks"]
    members = {child for group in groups.values() for child in group.child_names}
    objects = [of for name, of in {**groups, **tasks}.items() if name not in members]
    return Tasks(names, objects, read, manager)


def _manager(names: Sequence[str], include_path: str | None) -> Any:
    """Return lm-eval's index of its tasks and of those under `include_path`.

    Only of the latter, where that is enough: lm-eval's own 14,000 files take five seconds to read. A task
    under `include_path` has precedence anyway; a group or a tag may have members among lm-eval's.
    """
    from lm_eval.tasks import TaskManager

    if include_path is not None:
        own = TaskManager(include_path=include_path, include_defaults=False)
        if set(names) <= set(own.all_subtasks):
            return own
    return TaskManager(include_path=include_path)


def in_a_line(error: BaseException) -> str:
    """Return an error's kind and the first line of its message."""
    first = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first.rstrip('.')}."


def _unknown(name: str, known: Sequence[str], include_path: str | None) -> str:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    where = f" or a YAML file under {include_path} that can be read" if include_path else ""
    return (
        f"{name}: lm-eval has no such task{where}."
        + (f" The nearest: {', '.join(near)}." if near else "")
        + " All of them: lm_eval ls tasks"
    )


@contextmanager
def _pinned(pins: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Have every data set of the hub loaded at its pin; yield the commits of those that were.

    lm-eval takes a revision in a task's own YAML only, which its tasks do not have, so it is put where all of
    them load their data.
    """
    read: dict[str, str] = {}

    def load_dataset(original: Callable[..., Any], path: str, *arguments: Any, **options: Any) -> Any:
        if compat.on_hub(path):
            if options.get("revision") is None:
                if path not in pins:
                    raise UserError(_unpinned(path))
                options["revision"] = pins[path]
            read[path] = options["revision"]
        try:
            return original(path, *arguments, **options)
        # The library's errors, the hub's and the connection's have no common base.
        except Exception as error:
            at = f" at {read[path][:12]}" if path in read else ""
            files = options.get("data_files")
            what = f"{path}{f' ({files})' if files else ''}"
            raise UserError(
                f"{what}: the data cannot be loaded{at}: {in_a_line(error)} Check the name, the pin and the "
                "connection, then run again."
            ) from error

    with compat.load_dataset_by(load_dataset):
        yield read


def _unpinned(path: str) -> str:
    from huggingface_hub import HfApi

    try:
        newest = HfApi().dataset_info(path, timeout=10).sha or ""
    except Exception:  # the hub is out of reach, or does not know it
        newest = ""
    advice = f" The newest commit: --pin {path}@{newest}" if newest else ""
    return (
        f"{path}: data of the hub needs a pin, so that the next run reads the same."
        f"{advice or _how_to_pin(path)}"
    )


def _how_to_pin(path: str) -> str:
    return f" Look a commit up at https://huggingface.co/datasets/{path}/commits/main: --pin {path}@COMMIT"
