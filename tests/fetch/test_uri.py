"""Addresses of data and models, taken apart."""

import pytest

from sft.core.errors import UserError
from sft.fetch.uri import Address, parse


@pytest.mark.parametrize(
    ("uri", "parts"),
    [
        ("hf://datasets/a/b-c@main", ("dataset", "a/b-c", "main", None, None)),
        ("hf://datasets/a/b.c", ("dataset", "a/b.c", None, None, None)),
        ("hf://datasets/a/b@refs/x/y#*/train/*", ("dataset", "a/b", "refs/x/y", None, "*/train/*")),
        ("hf://a/b@v1.0", ("model", "a/b", "v1.0", None, None)),
        ("pypi://a-b==1.0.post1", ("pypi", "a-b", "1.0.post1", None, None)),
        (f"pypi://a==1?sha256={'AB' * 32}#en", ("pypi", "a", "1", "ab" * 32, "en")),
        ("data/raw/my file.jsonl", ("file", "data/raw/my file.jsonl", None, None, None)),
        ("./data/raw/x/#*.json", ("file", "data/raw/x", None, None, "*.json")),
        ("/tmp/a.jsonl", ("file", "/tmp/a.jsonl", None, None, None)),
        ("..", ("file", "..", None, None, None)),
        ("data/raw/a.jsonl#chosen", ("file", "data/raw/a.jsonl", None, None, None, True)),
        ("data/raw/x#*.json#chosen", ("file", "data/raw/x", None, None, "*.json", True)),
        ("hf://datasets/a/b@main#chosen", ("dataset", "a/b", "main", None, None, True)),
        ("hf://datasets/a/b@main#*/train/*#chosen", ("dataset", "a/b", "main", None, "*/train/*", True)),
        ("pypi://a==1#x/*#chosen", ("pypi", "a", "1", None, "x/*", True)),
    ],
)
def test_parse(uri, parts):
    assert parse(uri) == Address(uri, *parts)


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("hf://datasets/a", "not an address"),
        ("hf://datasets/a/b@", "not an address"),
        ("hf://a/b/c", "not an address"),
        ("https://x.org/a.json", "not an address"),
        ("s3://a/b", "not an address"),
        ("", "not an address"),
        ("#part", "not an address"),
        ("pypi://a", "names no version"),
        ("pypi://a@1", "names no version"),
        ("pypi://a==", "not an address"),
        ("pypi://a==1?sha256=12", "not an address"),
    ],
)
def test_malformed_addresses(uri, said):
    with pytest.raises(UserError) as error:
        parse(uri)
    assert said in str(error.value)
    assert "hf://datasets/ORG/NAME@REVISION" in str(error.value)
