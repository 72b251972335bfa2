"""What the scripts use of DVC that it does not promise to keep.

tests/scripts/test_compat.py touches each and says where to look when a version moves it.
"""


class NoSuchRevision(Exception):
    """Git and DVC know no revision or experiment of that name."""


class Unreadable(Exception):
    """A revision's file cannot be read; the message is DVC's."""


def experiment_reference(head: str, name: str) -> str:
    """Return the Git reference of the experiment `name` that began at the commit `head`."""
    return f"refs/exps/{head[:2]}/{head[2:]}/{name}"


def read_revision(revision: str, file: str) -> str:
    """Return the text of a revision's file, of DVC's outputs too; raise NoSuchRevision or Unreadable."""
    import dvc.api
    from dvc.exceptions import DvcException
    from dvc.scm import RevError

    try:
        return dvc.api.read(file, rev=revision, encoding="utf-8")
    except RevError as error:
        raise NoSuchRevision(str(error)) from error
    except (DvcException, FileNotFoundError) as error:
        raise Unreadable(str(error)) from error
