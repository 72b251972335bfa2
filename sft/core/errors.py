"""The exceptions for faults that the user can mend."""

from pathlib import Path

from sft.core.masking import masked


class UserError(Exception):
    """A fault of a file, a param, a row or a source: the message says what, where and what to do.

    Commands print it without a traceback and exit with status 1. Secrets in the message, which may quote an
    address or what a program says, are masked.
    """

    def __init__(self, message: str):
        super().__init__(masked(message))


class ParamError(UserError):
    """A fault of a param: the message begins with the param's dotted name.

    The library does not know which file the params came from; the command that has read it puts its name
    before the message.
    """


class MissingFile(UserError):
    """A file, `path`, is not there. How to get it is for the command that reads it to say."""

    def __init__(self, path: Path | str):
        super().__init__(f"{path}: no such file.")
        self.path = Path(path)

    def __reduce__(self) -> tuple[type["MissingFile"], tuple[Path]]:
        return type(self), (self.path,)  # from another process too
