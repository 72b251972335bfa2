"""What core uses of pyarrow beyond its public interface is as it was.

A test that fails after an update says what to look at in the new version.
"""

import subprocess
import sys

PROGRAM = """
import sys
from sft.core.compat import arrow_without_pandas
arrow_without_pandas()
import pyarrow as pa
table = pa.table({"id": ["a", "b"], "rows": [[1], [2, 3]]})
assert "pandas" not in sys.modules
import pandas
assert pa.table({"id": ["a"]}).num_rows == 1 and len(pandas.Series([1, 2])) == 2
"""


def test_arrow_imports_no_pandas() -> None:
    look = "pyarrow/pandas-shim.pxi: how often is pandas looked for, and what stands for its absence?"
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{look}\n{done.stderr}"
