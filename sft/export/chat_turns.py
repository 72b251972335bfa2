"""A chat template as what it prints around each message, where it is no more than that.

Programs such as Ollama have a template language of their own. What a Jinja template prints before and after
a message of each role is learned from short conversations; that this is all it does is then proven on others.
"""

from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from sft.core.errors import UserError
from sft.modeling.chat_template import TemplateRefusal, render
from sft.modeling.template_rendering import Messages

SYSTEM, USER, ASSISTANT = "system", "user", "assistant"


class NotTurns(UserError):
    """A chat template prints more than texts around messages; the message says what was seen."""


@dataclass(frozen=True)
class ChatTurns:
    """What a chat template prints: `around` each role's content, `without_system` first where no system
    message is, `prompt` before the answer. `trims` says that it takes white space off a content's ends.
    """

    around: dict[str, tuple[str, str]]
    without_system: str
    prompt: str
    trims: bool = False

    def text(self, messages: Messages) -> str:
        """Return the prompt that asks for the answer to these messages."""
        printed = [self.without_system] if messages[0]["role"] != SYSTEM else []
        for message in messages:
            before, after = self.around[message["role"]]
            printed += [before, message["content"], after]
        return "".join([*printed, self.prompt])


def _talk(*contents: str, system: str = "") -> list[dict[str, str]]:
    roles = [USER, ASSISTANT] * len(contents)
    messages = [{"role": SYSTEM, "content": system}] if system else []
    return [
        *messages,
        *({"role": role, "content": text} for role, text in zip(roles, contents, strict=False)),
    ]


PROOFS = [
    _talk("What is 2 + 2?"),
    _talk("é {{ .Content }} 12\n\n- a\n- b", system="Be brief.\nAlways."),
    _talk("One", "Two, 2.", "Three"),
    _talk("1", "2\n3", "<b>4</b>", "```\ncode\n```", "5", system="S"),
]
WHITE = _talk("  One \n", "\nTwo ", " Three")


def learn(tokenizer: Any) -> ChatTurns:
    """Return what the tokenizer's chat template prints around messages.

    Raises NotTurns where it does more than that, or takes no system message.
    """
    try:
        turns = _learned(tokenizer)
        for messages in PROOFS:
            if turns.text(messages) != render(tokenizer, messages, add_generation_prompt=True):
                roles = ", ".join(message["role"] for message in messages)
                raise NotTurns(f"of a conversation of {roles} it prints more than texts around the messages")
        trims = turns.text(WHITE) != render(tokenizer, WHITE, add_generation_prompt=True)
    except TemplateRefusal as error:
        raise NotTurns(f"it refuses a plain conversation: {error}") from error
    return ChatTurns(turns.around, turns.without_system, turns.prompt, trims)


def _learned(tokenizer: Any) -> ChatTurns:
    whole = _talk("Aq", "Bq", "Cq", system="Sq")
    opened, after_system, after_user, after_answer, last = _split(
        render(tokenizer, whole, add_generation_prompt=True), "Sq", "Aq", "Bq", "Cq"
    )
    first, *_ = _split(render(tokenizer, whole[1:], add_generation_prompt=True), "Aq")
    *_, user_end = _split(render(tokenizer, whole[1:2]), "Aq")
    *_, answer_end = _split(render(tokenizer, whole[1:3]), "Bq")
    # Some templates print more where a conversation ends. What is common to two places will do as well.
    if not (after_user.startswith(user_end) and last.startswith(user_end)):
        user_end = _common_start(after_user, last)
    if not after_answer.startswith(answer_end):
        answer_end = after_answer.removesuffix(_common_end(after_system, after_answer, first))
    before_user = _cut(after_answer, start=answer_end)
    return ChatTurns(
        {
            SYSTEM: (opened, _cut(after_system, end=before_user)),
            USER: (before_user, user_end),
            ASSISTANT: (_cut(after_user, start=user_end), answer_end),
        },
        _cut(first, end=before_user),
        _cut(last, start=user_end),
    )


def _common_start(*texts: str) -> str:
    shared = takewhile(lambda letters: len(set(letters)) == 1, zip(*texts, strict=False))
    return "".join(letters[0] for letters in shared)


def _common_end(*texts: str) -> str:
    return _common_start(*(text[::-1] for text in texts))[::-1]


def _split(text: str, *contents: str) -> list[str]:
    """Return the texts between contents that are each there once, in their order."""
    parts = []
    for content in contents:
        before, found, text = text.partition(content)
        if not found or content in text:
            raise NotTurns(
                f"it does not print every message once, in order: {content!r} of a test is missing"
            )
        parts.append(before)
    return [*parts, text]


def _cut(text: str, start: str = "", end: str = "") -> str:
    if not (text.startswith(start) and text.endswith(end) and len(text) >= len(start) + len(end)):
        raise NotTurns("what it prints around a message depends on where that stands")
    return text[len(start) : len(text) - len(end)]
