"""In what the tests start there is neither scikit-learn nor W&B, as where `make repro` alone has installed.

transformers and TRL import them wherever they are, which takes every stage with a model more than a second;
lm-eval and the trackers have brought them. A stage that reports to W&B has it.
"""

import os
import sys

hidden = ["sklearn"] if "wandb" in os.environ.get("SFT_REPORT_TO", "") else ["sklearn", "wandb"]
for name in hidden:
    sys.modules.setdefault(name, None)  # type: ignore[arg-type]
