"""The experiment trackers that a training can report to, by transformers' own integrations.

Each is begun here and not by its integration, which knows of no run to go on in and of no folder of ours.
What a tracker is told by its own environment variables it does; what they leave open is set so that nothing
waits long for a server, and nothing is sent but numbers and params.
"""

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sft.core.errors import UserError

# Seconds that W&B's server is waited for at the beginning, and at the end for what is still to be sent.
TIMEOUT, LAST_TIMEOUT = 20, 60
# For the time that a training reports. Those of the first group count only where the user has not set them.
DEFAULTS = {
    # MLflow gives a server up after four minutes, at each request. Of requests that fail after these seconds
    # its threads finish more than are made, so that none are left for the end.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_ASYNC_LOGGING_BUFFERING_SECONDS": "5",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "WANDB_ERROR_REPORTING": "false",
}
FIXED = {
    # What an integration would do with the model: copies of it, hooks in it.
    "HF_DVCLIVE_LOG_MODEL": "false",
    "HF_MLFLOW_LOG_ARTIFACTS": "false",
    "WANDB_LOG_MODEL": "false",
    "WANDB_WATCH": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "WANDB_SILENT": "true",  # else it asks for a key, and waits, where there is none
}


@dataclass(frozen=True)
class Reports:
    """What a training reports to, `names` of TRACKERS, and what it says of itself.

    `run` is the run's name. `params` are told as they are, by dotted names. Files lie in `folder` where a
    tracker's own variables name no other place; `live` is DVCLive's folder, `curves` the files of the loss
    and the validation loss that are kept up to date beside it.
    """

    names: tuple[str, ...]
    run: str
    params: dict[str, Any]
    folder: Path
    live: Path
    curves: tuple[Path, Path]


@dataclass(frozen=True)
class Begun:
    """A tracker's run: its integration's `callback`, the `id` to go on in it, and where it is `seen`.

    `end` is called with whether training has come to its end.
    """

    callback: Any
    id: str
    seen: str
    end: Callable[[bool], None]


def check(names: tuple[str, ...]) -> None:
    """Raise UserError for a name that is no tracker's, and for a tracker that is not installed."""
    for name in names:
        if name not in TRACKERS:
            raise UserError(f"{name!r} is no tracker. There are {', '.join(TRACKERS)}.")
        # Any folder of that name in the working directory is a package to Python, but without a file.
        if (found := importlib.util.find_spec(name)) is None or found.origin is None:
            raise UserError(
                f"{name} is not installed. Install the trackers with make install-trackers, or pip install "
                "-r requirements-trackers.txt -c constraints.txt (constraints-gpu.txt with an NVIDIA GPU)."
            )


def begin(name: str, reports: Reports, before: str | None, step: int) -> Begun:
    """Begin a run of the tracker `name`, or go on in that of the id `before`, after so many steps.

    Raises whatever the tracker does where it cannot.
    """
    reports.folder.mkdir(parents=True, exist_ok=True)
    return TRACKERS[name](reports, before, step)


def tensorboard(reports: Reports, before: str | None, step: int) -> Begun:
    """Write TensorBoard's event files, each run into a folder of its own."""
    from torch.utils.tensorboard import SummaryWriter
    from transformers.integrations import TensorBoardCallback

    place = Path(os.environ.get("TENSORBOARD_LOGGING_DIR") or reports.folder / "tensorboard").expanduser()
    going_on = before is not None and Path(before).is_dir()
    folder = Path(before) if before and going_on else _new(place, reports.run)
    # What a killed run has reported of the steps that are made again is not shown.
    writer = SummaryWriter(str(folder), purge_step=step + 1 if going_on else None)
    seen = f"{folder}; tensorboard --logdir {place}"
    return Begun(TensorBoardCallback(writer), str(folder.resolve()), seen, lambda _: writer.close())


def mlflow(reports: Reports, before: str | None, step: int) -> Begun:
    """Report to the server of MLFLOW_TRACKING_URI, or into a database for such a server."""
    import mlflow as package
    from mlflow.exceptions import MlflowException
    from transformers.integrations import MLflowCallback

    place = reports.folder / "mlflow"
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{place.resolve()}/mlflow.db"
    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    package.set_tracking_uri(uri)
    run = None
    if before:
        try:
            run = package.start_run(run_id=before)
        except MlflowException:  # deleted meanwhile; another server
            run = None
    run = run or package.start_run(run_name=reports.run)

    def end(finished: bool) -> None:
        try:
            package.flush_async_logging()
        finally:
            package.end_run("FINISHED" if finished else "KILLED")

    seen = f"{uri}, experiment {run.info.experiment_id}, run {run.info.run_name} ({run.info.run_id})"
    return Begun(MLflowCallback(), run.info.run_id, seen, end)


def wandb(reports: Reports, before: str | None, step: int) -> Begun:
    """Report to Weights & Biases, or by WANDB_MODE=offline into files that `wandb sync` sends later."""
    import wandb as package
    from transformers.integrations import WandbCallback

    run = package.init(
        project=os.environ.get("WANDB_PROJECT", "huggingface"),  # the integration's own default
        name=os.environ.get("WANDB_NAME") or reports.run,
        id=before,
        resume="allow" if before else None,
        dir=os.environ.get("WANDB_DIR") or str(reports.folder),
        settings=package.Settings(console="off", init_timeout=TIMEOUT, finish_timeout=LAST_TIMEOUT),
    )
    files = Path(run.dir).parent

    def end(finished: bool) -> None:
        run.finish(exit_code=0 if finished else 1)
        package.teardown()  # its process

    # Several offline runs are one to the server if the later ones are appended.
    sync = f"{files}; wandb sync {'--append ' if before else ''}{files}"
    return Begun(WandbCallback(), run.id, run.url or sync, end)


def dvclive(reports: Reports, before: str | None, step: int) -> Begun:
    """Write DVCLive's files, for `dvc plots show`, and keep the curves that dvc.yaml lists up to date.

    Without a dvc.yaml and experiments of its own: the pipeline has them. After each step DVCLive tells DVC's
    extension for VS Code to look again.
    """
    from dvclive import Live
    from transformers.integrations import DVCLiveCallback

    from sft.training.callbacks import CurveFiles

    live = Live(str(reports.live), resume=before is not None, save_dvc_exp=False, dvcyaml=False)
    curves = CurveFiles(*reports.curves)

    class ByStep(DVCLiveCallback):
        """Counts steps as the trainer does: the integration counts what is reported."""

        def on_log(
            self, args: Any, state: Any, control: Any, model: Any = None, logs: Any = None, **others: Any
        ) -> None:
            curves.write(state.log_history)
            live.step = state.global_step
            super().on_log(args, state, control, model, logs, **others)

    return Begun(ByStep(live), str(reports.live), f"{reports.live}; dvc plots show", lambda _: live.end())


def _new(place: Path, name: str) -> Path:
    """Return the first folder of a name that is not there."""
    numbered = (place / f"{name}-{number}" for number in range(2, 10_000))
    return next(path for path in (place / name, *numbered) if not path.exists())


def run_name() -> str:
    """Name a run by when it began."""
    return datetime.now().strftime("train-%Y%m%d-%H%M%S")


TRACKERS: dict[str, Callable[[Reports, str | None, int], Begun]] = {
    "tensorboard": tensorboard,
    "mlflow": mlflow,
    "wandb": wandb,
    "dvclive": dvclive,
}
