"""The kinds of data files that are understood, by their extensions."""

KINDS = {
    "Parquet": (".parquet",),
    # An array, or one object a line: the content tells which, whatever the extension.
    "JSON": tuple(end + packed for end in (".json", ".jsonl", ".ndjson") for packed in ("", ".gz", ".zst")),
}
EXTENSIONS = tuple(end for ends in KINDS.values() for end in ends)


def kind_of(name: str) -> str | None:
    """Return the kind of a file, by its extension, or None where it is no data file."""
    return next((kind for kind, ends in KINDS.items() if name.lower().endswith(ends)), None)


def is_data_file(name: str) -> bool:
    """Tell by the extension whether `sft.data.file_readers` understands the file."""
    return kind_of(name) is not None
