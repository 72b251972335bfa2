"""Is the difference real? Compare the results of Git revisions, experiments, folders and the workspace.

Run as `python -m scripts.compare REV REV ...`: the first is what the others are compared with. A REV is a
branch, tag, commit or experiment whose run is committed, `workspace`, or a folder that holds params.yaml,
scores/ and provenance/. Prints Markdown. It is no stage of the pipeline: it reads what stages left in Git.
"""

import sys

from scripts.results import Source
from sft.core.errors import UserError
from sft.study.comparison_report import report
from stages.cli import described

if __name__ == "__main__":
    try:
        print(report([Source.of(name).result() for name in dict.fromkeys(sys.argv[1:])]), end="")
    except UserError as error:
        sys.exit(f"error: {described(error)}")
