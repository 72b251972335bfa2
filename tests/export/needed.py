"""What tests of the export need beside the environment's packages."""

import os

import pytest

from sft.export import tools

# Where CI is set, the tools have to be there.
needs_tools = pytest.mark.skipif(
    not tools.FOLDER.exists() and "CI" not in os.environ, reason="llama.cpp's tools: make install-export"
)
