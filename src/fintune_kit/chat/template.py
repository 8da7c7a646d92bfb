"""A tokenizer's chat template, cut into slots for the contents.

`read_template` renders the template with placeholders and reads the text around them. So one mechanism serves every
template of the ChatML kind. It renders two conversations: one with a system message and several turns, one without.

    <|im_start|>  user\\n  What is an ETF?  <|im_end|> \\n <|im_start|>  assistant\\n  A fund ...  <|im_end|> \\n
    lead          header   content          lead                       header       content     tail
"""

import contextlib
import re
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

from fintune_kit.conversations import Message
from fintune_kit.errors import UserError, first_line

MAX_SECONDS = 10
"""Of one rendering, which takes a millisecond. A template is a program, and some do not end."""
_TRIMS: tuple[Callable[[str], str], ...] = (
    lambda text: text,
    lambda text: text.lstrip("\n"),
    lambda text: text.strip("\n"),
    lambda text: text.lstrip(),
    lambda text: text.strip(),
)


@dataclass(frozen=True)
class Slot:
    """The place of one content: token ids before it, text that may merge with it, and how it is trimmed."""

    lead: tuple[int, ...]
    header: str
    trim: Callable[[str], str]


@dataclass(frozen=True)
class Template:
    """A chat template cut into named slots, and the token ids after the last answer."""

    slots: dict[str, Slot]
    tail: tuple[int, ...]


def slots_of(messages: Sequence[Message]) -> Iterator[str]:
    """The name of each message's slot. Templates write a first user and the last answer in their own ways."""
    for index, message in enumerate(messages):
        if message["role"] == "user" and index <= 1 and (index == 0 or messages[0]["role"] == "system"):
            yield "user first" if index == 0 else "user after system"
        elif message["role"] == "assistant" and index == len(messages) - 1:
            yield "assistant last"
        else:
            yield message["role"]


def read_template(tokenizer: Any) -> Template:
    """Cuts a tokenizer's chat template into slots by rendering it around placeholders.

    Raises:
        UserError: the tokenizer has no template, or one that is not ChatML, where a control token ends each content.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise unknown_template(tokenizer, "it has no chat template")
    slots: dict[str, Slot] = {}
    for roles in ("system user assistant user assistant user assistant", "user assistant"):
        messages = [Message(role=role, content=f"[[Text {index}]]") for index, role in enumerate(roles.split())]
        fixed = _fixed_text(tokenizer, messages)
        for index, name in enumerate(slots_of(messages)):
            lead, header = _split_lead(tokenizer, fixed[index], closes=index > 0)
            slots[name] = Slot(lead, header, _trim_of(tokenizer, messages, index, fixed))
    lead, rest = _split_lead(tokenizer, fixed[-1], closes=True)
    return Template(slots, (*lead, *_ids(tokenizer, rest)))


def _fixed_text(tokenizer: Any, messages: Sequence[Message]) -> list[str]:
    """The text that a template writes before each content and after the last one."""
    pieces, text = [], _render(tokenizer, messages)
    for message in messages:
        before, found, text = text.partition(message["content"])
        if not found:
            raise unknown_template(tokenizer, f"it leaves out or rewrites a message of role {message['role']}")
        pieces.append(before)
    return [*pieces, text]


def _trim_of(tokenizer: Any, messages: Sequence[Message], index: int, fixed: Sequence[str]) -> Callable[[str], str]:
    contents = [message["content"] for message in messages]
    contents[index] = f"\n \n{contents[index]}\n \n"
    changed = [Message(role=old["role"], content=new) for old, new in zip(messages, contents, strict=True)]
    rendered = _render(tokenizer, changed)
    for trim in _TRIMS:
        written = [trim(text) if at == index else text for at, text in enumerate(contents)]
        if rendered == "".join(a + b for a, b in zip(fixed, [*written, ""], strict=True)):
            return trim
    raise unknown_template(tokenizer, f"it rewrites the blanks around a content of role {messages[index]['role']}")


def _split_lead(tokenizer: Any, text: str, *, closes: bool) -> tuple[tuple[int, ...], str]:
    """Fixed text, cut after its last control token. If it `closes` a content, it must begin with one."""
    controls = sorted((token.content for token in tokenizer.added_tokens_decoder.values()), key=len, reverse=True)
    found = list(re.finditer("|".join(map(re.escape, controls)), text)) if controls else []
    if not found or (closes and found[0].start() != 0):
        raise unknown_template(tokenizer, f"{text!r} has no control token between its neighbours")
    return _ids(tokenizer, text[: found[-1].end()]), text[found[-1].end() :]


def _render(tokenizer: Any, messages: Sequence[Message]) -> str:
    return rendered(tokenizer, messages, tokenize=False)


def rendered(tokenizer: Any, messages: Sequence[Message], *, tokenize: bool) -> Any:
    """The text that the tokenizer's template makes of a conversation, or its token ids.

    Raises:
        UserError: the template fails or does not end.
    """
    try:
        with _time_limit():
            return tokenizer.apply_chat_template(list(messages), tokenize=tokenize, return_dict=False)
    except Exception as error:  # a template is a program, so it can raise anything
        raise unknown_template(tokenizer, f"it fails ({first_line(error)[:200]})") from error


@contextlib.contextmanager
def _time_limit() -> Iterator[None]:
    """Raises `TimeoutError` in a block that takes longer than `MAX_SECONDS`."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python gives signals to the main thread only
        return

    def _stop(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"it has not ended after {MAX_SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, _stop)
    signal.setitimer(signal.ITIMER_REAL, MAX_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _ids(tokenizer: Any, text: str) -> tuple[int, ...]:
    return tuple(tokenizer.encode(text, add_special_tokens=False))


def unknown_template(tokenizer: Any, why: str) -> UserError:
    """The error for a template that cannot be reproduced; `why` says what was found."""
    return UserError(
        f"the chat template of {tokenizer.name_or_path or type(tokenizer).__name__!r} cannot be used: {why}; expected "
        "ChatML as of Qwen2.5 or Qwen3: name such a tokenizer with --tokenizer or FINTUNE_TOKENIZER"
    )
