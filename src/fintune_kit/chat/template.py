"""A tokenizer's chat template, cut into slots for the contents.

`read_template` renders the template with placeholders and reads off what stands around them, so one mechanism serves
every template of the ChatML kind. Two shapes say all: with a system message and several turns, and without.

    <|im_start|>  user\\n  What is an ETF?  <|im_end|> \\n <|im_start|>  assistant\\n  A fund ...  <|im_end|> \\n
    lead          header   content          lead                       header       content     tail
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fintune_kit.conversations import Message
from fintune_kit.errors import UserError

_TRIMS: tuple[Callable[[str], str], ...] = (
    lambda text: text,
    lambda text: text.lstrip("\n"),
    lambda text: text.strip("\n"),
    lambda text: text.lstrip(),
    lambda text: text.strip(),
)


@dataclass(frozen=True)
class Slot:
    """Where a content goes: token ids before it, text that the pre-tokenizer may merge with it, and its trimming."""

    lead: tuple[int, ...]
    header: str
    trim: Callable[[str], str]


@dataclass(frozen=True)
class Template:
    """A chat template cut into slots, by role and place, and the token ids after the last answer."""

    slots: dict[str, Slot]
    tail: tuple[int, ...]


def places(messages: Sequence[Message]) -> Iterator[str]:
    """The slot of each message: templates treat a first user without system, and the last answer, apart."""
    for number, message in enumerate(messages):
        if message["role"] == "user" and number <= 1 and (number == 0 or messages[0]["role"] == "system"):
            yield "user first" if number == 0 else "user after system"
        elif message["role"] == "assistant" and number == len(messages) - 1:
            yield "assistant last"
        else:
            yield message["role"]


def read_template(tokenizer: Any) -> Template:
    """Cuts a tokenizer's chat template into slots by rendering it around placeholders.

    Raises:
        UserError: there is no template, or it is not of the ChatML kind (each content closed by a control token).
    """
    if not getattr(tokenizer, "chat_template", None):
        raise unknown_template(tokenizer, "it has no chat template")
    slots: dict[str, Slot] = {}
    for roles in ("system user assistant user assistant user assistant", "user assistant"):
        messages = [Message(role=role, content=f"[[Text {number}]]") for number, role in enumerate(roles.split())]
        fixed = _fixed_text(tokenizer, messages)
        for number, place in enumerate(places(messages)):
            lead, header = _split_lead(tokenizer, fixed[number], closes=number > 0)
            slots[place] = Slot(lead, header, _trim_of(tokenizer, messages, number, fixed))
    lead, rest = _split_lead(tokenizer, fixed[-1], closes=True)
    return Template(slots, (*lead, *_ids(tokenizer, rest)))


def _fixed_text(tokenizer: Any, messages: Sequence[Message]) -> list[str]:
    """What a template writes before each content and after the last."""
    pieces, text = [], _render(tokenizer, messages)
    for message in messages:
        before, found, text = text.partition(message["content"])
        if not found:
            raise unknown_template(tokenizer, f"it leaves out or rewrites a message of role {message['role']}")
        pieces.append(before)
    return [*pieces, text]


def _trim_of(tokenizer: Any, messages: Sequence[Message], number: int, fixed: Sequence[str]) -> Callable[[str], str]:
    contents = [message["content"] for message in messages]
    contents[number] = f"\n \n{contents[number]}\n \n"
    changed = [Message(role=old["role"], content=new) for old, new in zip(messages, contents, strict=True)]
    rendered = _render(tokenizer, changed)
    for trim in _TRIMS:
        written = [trim(text) if place == number else text for place, text in enumerate(contents)]
        if rendered == "".join(a + b for a, b in zip(fixed, [*written, ""], strict=True)):
            return trim
    raise unknown_template(tokenizer, f"it rewrites the blanks around a content of role {messages[number]['role']}")


def _split_lead(tokenizer: Any, text: str, *, closes: bool) -> tuple[tuple[int, ...], str]:
    """Fixed text, cut after its last control token; where it `closes` a content it begins with one."""
    controls = sorted((token.content for token in tokenizer.added_tokens_decoder.values()), key=len, reverse=True)
    found = list(re.finditer("|".join(map(re.escape, controls)), text)) if controls else []
    if not found or (closes and found[0].start() != 0):
        raise unknown_template(tokenizer, f"{text!r} does not part its neighbours by a control token")
    return _ids(tokenizer, text[: found[-1].end()]), text[found[-1].end() :]


def _render(tokenizer: Any, messages: Sequence[Message]) -> str:
    return tokenizer.apply_chat_template(list(messages), tokenize=False)


def _ids(tokenizer: Any, text: str) -> tuple[int, ...]:
    return tuple(tokenizer.encode(text, add_special_tokens=False))


def unknown_template(tokenizer: Any, why: str) -> UserError:
    """The error for a tokenizer whose template is not one that we reproduce; `why` says what was found."""
    return UserError(
        f"the chat template of {tokenizer.name_or_path or type(tokenizer).__name__!r} cannot be used: {why}; expected "
        "ChatML as of Qwen2.5 or Qwen3: name such a tokenizer with --tokenizer or FINTUNE_TOKENIZER"
    )
