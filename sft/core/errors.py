"""The exceptions for faults that the user can mend."""


class UserError(Exception):
    """A fault of a file, a param, a row or a source: the message says what, where and what to do.

    Commands print it without a traceback and exit with status 1.
    """


class ParamError(UserError):
    """A fault of a param: the message begins with the param's dotted name.

    The library does not know which file the params came from; the command that has read it puts its name
    before the message.
    """
