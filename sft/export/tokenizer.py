"""The tokenizer that is exported: the one of training, mended for programs that know less than our code."""

import re
from typing import Any

from sft.modeling.chat_template import PROBE, render
from sft.modeling.loading import Resolved, load_tokenizer
from sft.modeling.template_rendering import DATE

# What a template calls for today's date, which training has pinned.
TODAY = re.compile(r"""strftime_now\(\s*(['"])(?P<format>.*?)\1\s*\)""")
# What loading leaves among a tokenizer's settings, true of this machine only.
OF_LOADING = ("is_local", "local_files_only", "name_or_path")


def exported(base: Resolved) -> Any:
    """Load the base's tokenizer as training has it, with a chat template that prints training's date.

    Raises UserError as `load_tokenizer` does.
    """
    tokenizer = load_tokenizer(base)
    pinned = pin_date(tokenizer.chat_template)
    if pinned != tokenizer.chat_template:
        text = render(tokenizer, PROBE)
        tokenizer.chat_template = pinned
        assert render(tokenizer, PROBE) == text
    for name in OF_LOADING:
        tokenizer.init_kwargs.pop(name, None)
    return tokenizer


def pin_date(template: str) -> str:
    """Put the date that training has in place of today's, in a chat template's text."""

    def literal(found: re.Match[str]) -> str:
        return f'"{DATE.strftime(found["format"])}"'

    return TODAY.sub(literal, template)


def prints_today(template: str) -> bool:
    """Tell whether a chat template still asks for today's date."""
    return "strftime_now(" in template
