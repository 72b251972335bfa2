"""The pipeline's stages: one plain script each, run as `python -m stages.NAME` in the repository's root."""

import signal
import sys

# Python looks for the stage that it is to run: while that imports what it needs, Ctrl-C ends it without a
# traceback; then stages/stopping.py takes over.
if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
