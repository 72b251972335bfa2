"""What the trainer calls at each step: progress bar, seconds of steps, curves, the end of a diverging run."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from sft.core.errors import UserError
from sft.core.files import write_csv
from sft.training import logs


def progress_bar() -> Any:
    """Make a trainer callback that shows one bar with the last losses, in place of a line a step."""
    from tqdm.auto import tqdm
    from transformers import TrainerCallback

    class ProgressBar(TrainerCallback):
        bar: Any = None
        shown: ClassVar[dict[str, str]] = {}

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            begin = state.global_step
            self.bar = tqdm(total=state.max_steps, initial=begin, desc="training", unit="step", mininterval=1)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.bar.update(state.global_step - self.bar.n)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            for name, shown in (("loss", "loss"), ("eval_loss", "validation")):
                if name in (logs or {}):
                    self.shown[shown] = f"{float(logs[name]):.3f}"
            self.bar.set_postfix(self.shown, refresh=False)

        def close(self) -> None:
            if self.bar:
                self.bar.close()

    return ProgressBar()


def step_timer(before: list[float]) -> Any:
    """Make a trainer callback whose `seconds` are those of each step, without validation and saving.

    They begin with those of the steps `before`, of the runs that this one goes on from.
    """
    from transformers import TrainerCallback

    class StepTimer(TrainerCallback):
        def __init__(self) -> None:
            self.seconds = list(before)
            self.since = 0.0

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.since = time.perf_counter()

        def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.since = time.perf_counter()

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.since = time.perf_counter()

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if "loss" in (logs or {}):  # logged once the device has computed it
                now = time.perf_counter()
                self.seconds.append(now - self.since)
                self.since = now

    return StepTimer()


def divergence_check(learning_rate: float, dtype: str, clear: Callable[[], None]) -> Any:
    """Make a trainer callback that raises UserError at the first loss that is no number.

    The trainer logs every step, so the loss is on the host anyway. Before, `clear` removes the checkpoints:
    they lead to the same loss.
    """
    from transformers import TrainerCallback

    class DivergenceCheck(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            for name, which in (("loss", "loss"), ("eval_loss", "validation loss")):
                loss = (logs or {}).get(name, 0.0)
                if math.isfinite(loss):
                    continue
                clear()
                if not state.global_step:
                    raise UserError(
                        f"the {which} is {loss} before the first step. Use another model.dtype (now "
                        f"{dtype}), or another model.reference: its weights may be damaged."
                    )
                raise UserError(
                    f"training diverged: the {which} is {loss} at step {state.global_step} of "
                    f"{state.max_steps}. Lower train.learning_rate (now {learning_rate}), or use another "
                    f"model.dtype (now {dtype})."
                )

    return DivergenceCheck()


class CurveFiles:
    """The files of the loss and of the validation loss, kept up to date while training goes on."""

    EVERY = 1.0  # seconds between two times at least: all steps are written anew

    def __init__(self, loss: Path, validation: Path) -> None:
        self._loss, self._validation = loss, validation
        self._since = -math.inf

    def write(self, history: list[dict[str, Any]]) -> None:
        """Write what the trainer's log history has, unless they have been written just now."""
        if (now := time.monotonic()) - self._since < self.EVERY:
            return
        self._since = now
        for path, rows in ((self._loss, logs.steps(history)), (self._validation, logs.validations(history))):
            if rows:
                write_csv(path, [dict(row) for row in rows])
