"""Where variance comes from: known answers."""

import numpy as np
import pytest

from sft.statistics.variance import decoding_std, variance_shares
from tests.statistics.made_scores import configuration


def test_decoding_std():
    # Means over examples of 0.2, 0.3 and 0.4.
    task = np.array([[0.1, 0.3], [0.3, 0.3], [0.0, 0.8]])
    assert decoding_std([task]) == pytest.approx(0.1)
    # Of the average with a task that runs the other way: 0.3 always.
    assert decoding_std([task, np.array([[0.4], [0.3], [0.2]])]) == pytest.approx(0.0)
    assert decoding_std([np.array([[0.1, 0.3]])]) is None


@pytest.mark.parametrize("decoding_is_shared", [False, True])
@pytest.mark.parametrize("tasks", [1, 2])
def test_variance_shares(decoding_is_shared, tasks):
    """Seeded decoding noise of an example may be alike in all replicates: it is decoding's all the same."""
    rng = np.random.default_rng(10)
    made, parts = [], {"decoding": 0.0, "replicates": 0.0, "examples": 0.0}
    luck = rng.standard_normal((40, 1, 1))  # of a replicate, in all tasks
    luck *= 0.3 / luck.std(ddof=1)
    for examples in (200, 100)[:tasks]:
        shape = (40, 10, examples)
        noise = 4 * rng.standard_normal((1, *shape[1:]) if decoding_is_shared else shape)
        made.append(configuration(rng, shape, 3 * rng.standard_normal(examples), 0, 0, 2, 0) + noise + luck)
        parts["decoding"] += 16 / examples / tasks**2
        parts["replicates"] += 4 / examples / tasks**2
        parts["examples"] += 9 / examples / tasks**2
    parts["replicates"] += 0.09
    total = sum(parts.values())
    assert variance_shares(made) == pytest.approx(
        {name: part / total for name, part in parts.items()}, abs=0.07
    )


def test_variance_shares_of_one_source():
    examples = np.broadcast_to(np.arange(20.0), (3, 2, 20))
    assert variance_shares([examples]) == pytest.approx({"decoding": 0, "replicates": 0, "examples": 1})
    replicates = np.broadcast_to(np.arange(3.0)[:, None, None], (3, 2, 20))
    assert variance_shares([replicates]) == pytest.approx({"decoding": 0, "replicates": 1, "examples": 0})
    assert variance_shares([examples[:1]]) is None
    assert variance_shares([np.ones((3, 2, 20))]) is None
