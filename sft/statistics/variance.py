"""Where scores' variance comes from: decoding, replicates, examples."""

from collections.abc import Sequence

import numpy as np


def decoding_std(tasks: Sequence[np.ndarray]) -> float | None:
    """Return the sample standard deviation over runs of the tasks' average; None for one run.

    A task's scores are (runs, examples).
    """
    by_run = np.mean([task.mean(axis=1) for task in tasks], axis=0)
    return float(by_run.std(ddof=1)) if len(by_run) > 1 else None


def variance_shares(tasks: Sequence[np.ndarray], decoded: bool = True) -> dict[str, float] | None:
    """Return decoding's, replicates' and examples' shares of the variance of one run's mean of one replicate.

    The mean is the tasks' average; a task's scores are (replicates, runs, examples). None where one of these
    is 1 or nothing varies; what is not `decoded`, the likelihood, has a single run and no such noise. Method
    of moments: a source's variance is the covariance of scores that share this source only.
    That a training does better on some examples than on others counts as replicates'. A part
    that comes out negative is 0; from a handful of replicates their share is a rough one.
    """
    if not decoded:
        tasks = [task.repeat(2, axis=1) for task in tasks]
    if min(size for task in tasks for size in task.shape) < 2:
        return None
    replicates, runs, _ = tasks[0].shape
    other_run, other_replicate = ~np.eye(runs, dtype=bool), ~np.eye(replicates, dtype=bool)
    # The same seeded noise may meet an example in all replicates: two scores of one run share that too.
    over_replicates = np.cov(np.mean([task.mean(axis=2) for task in tasks], axis=0), rowvar=False)
    parts = {"decoding": 0.0, "replicates": float(over_replicates[other_run].mean()), "examples": 0.0}
    for task in tasks:
        examples = task.shape[-1]
        over_examples = np.cov(task.reshape(-1, examples)).reshape(replicates, runs, replicates, runs)
        crossed = over_examples[other_replicate[:, None, :, None] & other_run[:, None, :]]
        weight = examples * len(tasks) ** 2
        parts["decoding"] += float(task.var(axis=1, ddof=1).mean()) / weight
        parts["examples"] += float(crossed.mean()) / weight
    parts = {name: max(part, 0.0) for name, part in parts.items()}
    total = sum(parts.values())
    return {name: part / total for name, part in parts.items()} if total else None
