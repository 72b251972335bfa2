"""`dvc exp run --temp` that may be started beside others: python -m scripts.experiment_in_copy [its options].

DVC 3.67.1 puts what it is about to run into one place of the repository, and runs whatever it finds there,
when it begins and again when it has ended. Of two that are started at nearly the same time one is refused, or
one does both experiments, one after the other, and the other ends without having done its own.
"""

import sys
from pathlib import Path

from scripts import compat

if __name__ == "__main__":
    if not Path(".dvc").is_dir():
        sys.exit("error: there is no .dvc here. Run this in the repository's top folder.")
    sys.exit(compat.run_experiment_in_copy(sys.argv[1:]))
