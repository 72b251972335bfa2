"""The one exception for faults that the user can mend."""


class UserError(Exception):
    """A fault of a file, a param, a row or a source: the message says what, where and what to do.

    Stages print it without a traceback and exit with status 1.
    """
