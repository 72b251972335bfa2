"""How many random cases a property is tried with: the same ones at every run."""

import os

from hypothesis import HealthCheck, settings

# docs/robustness.md has the command for more.
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "100"))


def cases(share: float = 1.0) -> settings:
    """Return the settings of a property that takes this share of the cases."""
    return settings(
        max_examples=max(1, int(EXAMPLES * share)),
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
