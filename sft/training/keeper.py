"""Saving a training's checkpoints while it goes on, and going on from one of them to the same bits.

The trainer's own means write and read its optimizer, schedule, loss scale, random numbers and place in the
rows, and `weights_only` throughout; what it does not know of is added: how steps are cut, whose rounding
depends on it, and the seconds.
"""

import time
from pathlib import Path
from typing import Any

from sft.training import compat
from sft.training.checkpoints import Checkpoints, Interrupted, Progress
from sft.training.micro_batches import MicroBatches

WEIGHTS = "trained.safetensors"


class ValidationStopped(Exception):
    """A validation is broken off, because training is to stop."""


class Keeper:
    """What keeps one run's progress in `checkpoints`, and what it goes on from, `before` and its `folder`.

    `begin` says how the run cuts its steps; the trainer then asks to `save` and `load`.
    """

    def __init__(self, checkpoints: Checkpoints | None) -> None:
        self.checkpoints = checkpoints
        self.folder: Path | None = None
        self.before: Progress | None = None
        if checkpoints and (found := checkpoints.newest()):
            self.folder, self.before = found
        self.stopped = False
        self._began = time.perf_counter()
        self._stepping = False  # whether a step has been made in this run
        self._validation_due = False
        if self.before:
            print(_going_on(self.before), flush=True)

    @property
    def resumed_at_steps(self) -> list[int]:
        """Return the steps at which runs went on from a checkpoint, this one's the last."""
        return [*self.before.resumed_at_steps, self.before.step] if self.before else []

    @property
    def validate_first(self) -> bool:
        """Tell whether a validation is due before this run's first step."""
        return self.before is None or self.before.validation_due

    def begin(self, micro_batches: MicroBatches, captured_tokens: int, timer: Any) -> None:
        """Take note of how steps are cut, and of the callback that has their seconds."""
        self._micro_batches, self._captured_tokens, self._timer = micro_batches, captured_tokens, timer

    def callback(self) -> Any:
        """Make the trainer callback that says after a step whether to save and whether to stop."""
        from transformers import TrainerCallback

        keeper = self

        class WhenToSave(TrainerCallback):
            def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                keeper._check_before_the_first_step(state)

            def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                keeper._stepping = True
                if keeper._stopping():
                    control.should_save = control.should_training_stop = keeper.stopped = True
                elif keeper.checkpoints and keeper.checkpoints.due():
                    control.should_save = True

        return WhenToSave()

    def check_in_validation(self) -> None:
        """Raise ValidationStopped where training is to stop."""
        if self._stopping():
            raise ValidationStopped

    def stop_in_validation(self, trainer: Any) -> None:
        """Save, stop, and leave the validation to the next run; before the first step nothing is to save."""
        self._check_before_the_first_step(trainer.state)
        self._validation_due = True
        # The trainer, whose evaluation did not come to its end, would begin another at the end of the epoch.
        trainer.control.should_evaluate = False
        trainer.control.should_save = trainer.control.should_training_stop = self.stopped = True

    def save(self, trainer: Any) -> None:
        """Write a checkpoint of the trainer's state after its last step."""
        from safetensors.torch import save_file

        def write(folder: Path) -> None:
            weights = {name: p.detach().cpu().contiguous() for name, p in _trained(trainer.model)}
            save_file(weights, folder / WEIGHTS)
            compat.save_state(trainer, folder)

        if self.checkpoints:
            self.checkpoints.save(self._progress(trainer), write)

    def load(self, trainer: Any, folder: Path) -> None:
        """Put a checkpoint's weights into the trainer's model."""
        from safetensors.torch import load_file

        weights = load_file(folder / WEIGHTS)
        for name, parameter in _trained(trainer.model):
            parameter.data.copy_(weights[name])

    def interrupted(self, state: Any) -> Interrupted:
        """Return what is to be raised where training has stopped before its end."""
        assert self.checkpoints is not None
        return Interrupted(state.global_step, state.max_steps, self.checkpoints.last)

    def seconds(self) -> float:
        """Return what training has taken so far, in the runs that this one goes on from too."""
        return time.perf_counter() - self._began + self.seconds_before

    @property
    def seconds_before(self) -> float:
        """Return what training took in the runs that this one goes on from."""
        return self.before.seconds if self.before else 0.0

    def _progress(self, trainer: Any) -> Progress:
        graphs = self.before.graphs if self.before else None
        if trainer.graph_runner:
            graphs = trainer.graph_runner.state()
        return Progress(
            step=trainer.state.global_step,
            steps=trainer.state.max_steps,
            saved=time.time(),
            seconds=self.seconds(),
            step_seconds=self._timer.seconds,
            resumed_at_steps=self.resumed_at_steps,
            cut=self._micro_batches.state(),
            captured_tokens=self._captured_tokens,
            graphs=graphs,
            validation_due=self._validation_due,
        )

    def _stopping(self) -> bool:
        return self.checkpoints is not None and self.checkpoints.stopping()

    def _check_before_the_first_step(self, state: Any) -> None:
        """Raise Interrupted where training is to stop, and no step of this run is to be saved."""
        if self._stopping() and not self._stepping:
            raise self.interrupted(state)


def _trained(model: Any) -> list[tuple[str, Any]]:
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]


def _going_on(before: Progress) -> str:
    saved = time.localtime(before.saved)
    today = time.strftime("%F", saved) == time.strftime("%F")
    when = time.strftime("%T" if today else "%F %T", saved)
    return f"going on from step {before.step:,} of {before.steps:,} (checkpoint of {when})"
