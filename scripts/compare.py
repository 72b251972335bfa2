"""Is the difference real? Compare the results of Git revisions, experiments, folders and the workspace.

Run as `python -m scripts.compare REV REV ...`: the first is what the others are compared with. A REV is a
branch, tag, commit or experiment whose run is committed, `workspace`, or a folder that holds params.yaml,
scores/ and provenance/. Prints Markdown. It is no stage of the pipeline: it reads what stages left in Git,
and what `make harness` did.
"""

import sys

from scripts import harness_comparison
from scripts.results import Source
from sft.core.errors import UserError
from sft.study.comparison_report import report
from stages.cli import described

if __name__ == "__main__":
    try:
        sources = [Source.of(name) for name in dict.fromkeys(sys.argv[1:])]
        print(report([source.result() for source in sources]), end="")
        if benchmarks := harness_comparison.section(sources):
            print("\n".join(["", *benchmarks]), end="")
    except UserError as error:
        sys.exit(f"error: {described(error)}")
