"""Secrets in what is shown: messages quote addresses as users, pip, Git or the hub give them."""

import logging
import os
import re

MASK = "****"
LEAST = 8  # characters of an environment variable's value that is taken for a secret

# What stands before the host: `user:password@`, or a token alone. A password may hold an @.
_LOGIN = re.compile(r"(\b[a-z][a-z0-9+.-]*://)([^/\s'\"<>?#]+)@", re.IGNORECASE)
_QUERY = re.compile(
    r"([?&;](?:[\w.-]*(?:token|secret|passw|signature|credential|access.?key|api.?key)[\w.-]*|key|sig|auth|pwd)=)"
    r"[^&;\s'\"<>#]+",
    re.IGNORECASE,
)
_HEADER = re.compile(r"(authorization['\"]?\s*[:=]\s*['\"]?\w+\s+)[^\s'\"]+", re.IGNORECASE)
# Tokens that can be told by their form: Hugging Face, GitHub, GitLab, PyPI.
_FORMS = re.compile(
    r"\b(?:hf_\w{16,}|gh[opsur]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|pypi-AgE[\w-]{16,})"
)
_NAMES = re.compile(r"(^|_)(TOKEN|SECRET|PASSWORD|API_KEY|ACCESS_KEY)$", re.IGNORECASE)


def masked(text: str) -> str:
    """Return the text with **** for every secret in it.

    Secrets are logins in URLs (of SSH the password only), the values of parameters such as ?token= and
    X-Amz-Signature=, tokens of known forms, and the values of environment variables such as HF_TOKEN.
    """
    for name, value in os.environ.items():
        if _NAMES.search(name) and len(value.strip()) >= LEAST:
            text = text.replace(value.strip(), MASK)
    text = _LOGIN.sub(_without_login, text)
    text = _QUERY.sub(rf"\1{MASK}", text)
    text = _HEADER.sub(rf"\1{MASK}", text)
    return _FORMS.sub(MASK, text)


def _without_login(match: re.Match[str]) -> str:
    scheme, login = match.groups()
    user, colon, _ = login.partition(":")
    if scheme.lower().startswith(("ssh", "git+ssh", "sftp")):
        return f"{scheme}{user}:{MASK}@" if colon else match[0]
    return f"{scheme}{MASK}@"


class Masking(logging.Filter):
    """Masks the secrets in what a logger is told."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record through, masked."""
        record.msg, record.args = masked(record.getMessage()), ()
        return True
