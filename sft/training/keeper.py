"""Saving a training's checkpoints while it goes on, and going on from one of them to the same bits.

The trainer's own means write and read its optimizer, schedule, loss scale, random numbers and place in the
rows, and `weights_only` throughout; what it does not know of is added: how steps are cut, whose rounding
depends on it, and the seconds.
"""

import time
from pathlib import Path
from typing import Any

from sft.distributed.ranks import ALONE, Ranks
from sft.training import compat
from sft.training.checkpoints import Checkpoints, Interrupted, Progress
from sft.training.micro_batches import MicroBatches

WEIGHTS = "trained.safetensors"


class ValidationStopped(Exception):
    """A validation is broken off, because training is to stop."""


class Keeper:
    """What keeps one run's progress in `checkpoints`, and what it goes on from, `before` and its `folder`.

    `begin` says how the run cuts its steps; the trainer then asks to `save` and `load`. The ids of the runs
    that trackers have of this training, `reported`, are kept too. Of several `ranks` the first keeps the
    checkpoints, with the random numbers of all of them, and says when; the others' folder is for what they
    get of it.
    """

    def __init__(self, checkpoints: Checkpoints | None, ranks: Ranks = ALONE) -> None:
        self.checkpoints, self.ranks = checkpoints, ranks
        self.folder: Path | None = None
        self.before: Progress | None = None
        if checkpoints and (found := _shared(checkpoints.newest(), checkpoints.folder, ranks)):
            self.folder, self.before = found
        self.stopped = False
        self._began = time.perf_counter()
        self._stepping = False  # whether a step has been made in this run
        self._validation_due = False
        self.reported = dict(self.before.reported) if self.before else {}
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

    def leave_out(self, seconds: float) -> None:
        """Take note of seconds that were waited, and are none of training's."""
        self._began += seconds

    def callback(self) -> Any:
        """Make the trainer callback that says after a step whether to save and whether to stop."""
        from transformers import TrainerCallback

        keeper = self

        class WhenToSave(TrainerCallback):
            def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                keeper._check_before_the_first_step(state)

            def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                keeper._stepping = True
                stopping, due = keeper.ranks.any(keeper.asked_to_stop(), keeper._due())
                if stopping:
                    control.should_save = control.should_training_stop = keeper.stopped = True
                elif due:
                    control.should_save = True

        return WhenToSave()

    def asked_to_stop(self) -> bool:
        """Tell whether this rank has been asked to stop."""
        return self.checkpoints is not None and self.checkpoints.stopping()

    def check_in_validation(self) -> None:
        """Raise ValidationStopped, in all ranks, where training is to stop."""
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

        if not self.checkpoints:
            return
        others: list[bytes] = []
        if self.ranks.count > 1:
            self.ranks.check_equal([p for _, p in _trained(trainer.model)])
            others = self.ranks.gather(compat.random_state(trainer))[1:]

        def write(folder: Path) -> None:
            weights = {name: p.detach().cpu().contiguous() for name, p in _trained(trainer.model)}
            save_file(weights, folder / WEIGHTS)
            compat.save_state(trainer, folder)
            for rank, state in enumerate(others, 1):
                (folder / _random_state_of(rank)).write_bytes(state)

        if self.ranks.first:
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
            reported=self.reported,
        )

    def _stopping(self) -> bool:
        """Tell whether training is to stop: the same in all ranks, each of which has to ask."""
        return self.ranks.any(self.asked_to_stop())[0]

    def _due(self) -> bool:
        return self.checkpoints is not None and self.ranks.first and self.checkpoints.due()

    def _check_before_the_first_step(self, state: Any) -> None:
        """Raise Interrupted where training is to stop, and no step of this run is to be saved."""
        if self._stopping() and not self._stepping:
            raise self.interrupted(state)


def _trained(model: Any) -> list[tuple[str, Any]]:
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]


def _shared(found: tuple[Path, Progress] | None, folder: Path, ranks: Ranks) -> tuple[Path, Progress] | None:
    """Have all ranks go on from what the first has found: the others, on any host, get it in `folder`.

    There it is as the trainer reads it, with the rank's own random numbers.
    """
    if ranks.count == 1:
        return found
    files = {path.name: path.read_bytes() for path in found[0].iterdir()} if found and ranks.first else {}
    files, progress = ranks.from_first((files, found[1] if found else None))
    if progress is None or ranks.first:
        return found
    files[compat.RANDOM_STATE] = files[_random_state_of(ranks.rank)]
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder, progress


def _random_state_of(rank: int) -> str:
    return f"rng_state-{rank}.pth"


def _going_on(before: Progress) -> str:
    saved = time.localtime(before.saved)
    today = time.strftime("%F", saved) == time.strftime("%F")
    when = time.strftime("%T" if today else "%F %T", saved)
    return f"going on from step {before.step:,} of {before.steps:,} (checkpoint of {when})"
