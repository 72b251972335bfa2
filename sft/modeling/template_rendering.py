"""Rendering a conversation with the tokenizer's chat template: the same text every day, and refusals."""

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from sft.core.errors import UserError
from sft.modeling import compat

# A message as transformers' `apply_chat_template` takes it; a tool as OpenAI writes its schema.
Messages = Sequence[Mapping[str, Any]]
Tools = Sequence[Mapping[str, Any]]

# Llama 3's templates print the date: today's would change the tokens daily. This is their own fallback.
DATE = datetime.datetime(2024, 7, 26)
SHOWN = 200  # characters of a template's own words
LONG = 1 << 20  # characters of a conversation that may be too much for a template that is none the worse

OTHER_TEMPLATE = "Use another model or chat template for such rows, or take them out of the data."


class TemplateRefusal(UserError):
    """The template takes other conversations but not this one: count the row and leave it out.

    `reason` is one of few texts, to count by. The message says it of this conversation; `advice` says what
    to do about such rows.
    """

    def __init__(self, reason: str, detail: str | None = None, advice: str = OTHER_TEMPLATE):
        super().__init__(detail or reason)
        self.reason, self.advice = reason, advice


def apply(tokenizer: Any, messages: Messages, tools: Tools | None = None, **options: Any) -> Any:
    """Call the tokenizer's `apply_chat_template` with the date pinned.

    Raises TemplateRefusal where the template raises or there is no message, UserError for a template that is
    no Jinja or not there, or that takes longer or makes more than any real one does
    (`sft.modeling.template_sandbox`).
    """
    import jinja2

    from sft.modeling.template_budget import TemplateLimit
    from sft.modeling.template_sandbox import BoundedEnvironment

    compat.render_templates_in(BoundedEnvironment)
    source(tokenizer, tools)
    if not messages:
        raise TemplateRefusal("there is nothing before the assistant's first turn")
    try:
        rendered = tokenizer.apply_chat_template(
            list(messages),
            tools=list(tools) if tools else None,
            date_string=DATE.strftime("%d %b %Y"),
            strftime_now=DATE.strftime,
            **options,
        )
        if isinstance(rendered, str):
            rendered.encode("utf-8")  # a tokenizer takes no half of a surrogate pair
        return rendered
    except jinja2.TemplateSyntaxError as error:
        raise UserError(f"{tokenizer.name_or_path}: its chat template is not valid Jinja: {error}") from error
    except SyntaxError as error:  # loops within loops, of which Python takes 20
        raise UserError(f"{tokenizer.name_or_path}: its chat template cannot be compiled: {error}") from error
    except (TemplateLimit, MemoryError, RecursionError) as error:
        what = str(error) if isinstance(error, TemplateLimit) else "nests or holds too much"
        size = sum(len(str(message.get("content") or "")) for message in messages)
        if size > LONG:
            raise TemplateRefusal("the chat template cannot render so long a conversation", what) from None
        raise UserError(
            f"{tokenizer.name_or_path}: its chat template {what} for one conversation of {size:,} "
            "characters, which none of a real model does. Use another model or chat template."
        ) from None
    # Where a template meets a key or type that it does not expect, Python's own errors come through Jinja.
    except (
        jinja2.TemplateError,
        TypeError,
        ValueError,
        ArithmeticError,
        LookupError,
        AttributeError,
        RuntimeError,
    ) as error:
        said = " ".join(str(error).split())[:SHOWN]
        raise TemplateRefusal(f"the chat template refuses this conversation: {said}") from error


def source(tokenizer: Any, tools: Tools | None = None) -> str:
    """Return the chat template's text; raise UserError where there is none.

    Some tokenizers have another template for conversations with tools.
    """
    try:
        return tokenizer.get_chat_template(tools=list(tools) if tools else None)
    except ValueError as error:
        raise UserError(
            f"{tokenizer.name_or_path}: the model has no chat template. Use an instruction-tuned model."
        ) from error
