"""The kinds of data files that are understood, by their extensions."""

JSON_EXTENSIONS = (".json", ".jsonl", ".ndjson")
EXTENSIONS = (".parquet", *(end + packed for end in JSON_EXTENSIONS for packed in ("", ".gz", ".zst")))


def is_data_file(name: str) -> bool:
    """Tell by the extension whether `sft.data.file_readers` understands the file."""
    return name.lower().endswith(EXTENSIONS)
