"""Where downloads are kept: outside the pipeline's outputs, shared by all clones of one user."""

import os
from pathlib import Path

from platformdirs import user_cache_path

from sft.core.errors import UserError


def cache_dir() -> Path:
    """Return the download cache's folder, made if needed: $SFT_CACHE, else `sft` in the user's cache folder.

    On Linux that is $XDG_CACHE_HOME/sft or ~/.cache/sft. Raises UserError where it cannot be made.
    """
    own = os.environ.get("SFT_CACHE")
    folder = Path(own).expanduser() if own else user_cache_path("sft", appauthor=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{folder}: the download cache cannot be made there: {error.strerror or error}. "
            "Set SFT_CACHE to a folder that can be written."
        ) from error
    return folder.resolve()
