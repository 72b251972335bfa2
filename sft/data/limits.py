"""What no real training data meets, and what reading it would cost a machine its memory or its day.

docs/robustness.md lists what each of these holds off. Sizes are in bytes.
"""

# A row as it is written. Ten million tokens of English are some 45 MB.
ROW = 64 << 20
# Lists and objects of a row, each of which takes some 100 bytes: a row of empty ones takes 3 GB.
NESTED = 1_000_000
# Messages of a row. The longest recorded sessions of agents have some thousand. Where each answer's tokens
# are told apart by rendering what stands before it, the work grows with the square.
MESSAGES = 10_000
# Columns of a file. Readers make a cell for every row and column, so rows keyed by an id of their own would
# be a table of as many columns as rows.
COLUMNS = 1_000
# Entries of one file that are no rows, each of which is kept with its reason.
REJECTS = 1_000_000
# A file that is one JSON value, such as an object with the rows under a name: it is parsed as a whole.
WHOLE = 512 << 20
# Compressed text is a third to a tenth of its size, and templated text a fiftieth. Beyond this size what
# unpacks to more than RATIO times its own is no text.
UNPACKED = 256 << 20
RATIO = 100
# Python's literals in a text, such as the arguments of a call: the parser takes some 250 times their size.
LITERAL = 1 << 20


def mib(size: int) -> str:
    """Write a size in MiB."""
    return f"{size >> 20:,} MiB"
