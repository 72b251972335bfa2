"""What the chatbot uses of DVC that it does not promise to keep.

tests/app/test_compat.py touches each and says where to look when a version moves it.
"""

from typing import Any

EXPERIMENTS = "refs/exps"  # refs/exps/AB/CDEF.../NAME: an experiment NAME that began at the commit ABCDEF...


def experiment_name(reference: str) -> str | None:
    """Return the name of the experiment that a reference below EXPERIMENTS is; None for DVC's own.

    Those are its stash and its queue, which have fewer parts.
    """
    return reference.rpartition("/")[2] if reference.count("/") >= 4 else None


def open_revision(name: str, file: str, output: str) -> tuple[Any, str, str]:
    """Return a revision's files, DVC's outputs among them; the text of one; an output's hash in dvc.lock.

    Raises ValueError where there is no such revision or experiment, FileNotFoundError where it has no such
    file or output, and DvcException for all else.
    """
    from dvc.api import DVCFileSystem
    from dvc.scm import RevError

    try:
        files = DVCFileSystem(".", rev=name)
        text = files.read_text(file, encoding="utf-8")
        digest = files.info(output).get("md5")
    # Of a name that stands for something else than a commit, such as HEAD^{tree}, pygit2 makes others.
    except (RevError, AttributeError) as error:
        raise ValueError(f"{name}: no such revision") from error
    if not digest:
        raise FileNotFoundError(output)
    return files, text, digest
