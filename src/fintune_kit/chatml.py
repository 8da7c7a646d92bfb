"""Conversations: their rules, their text, their tokens, and which of these are supervised.

A chat template writes fixed text around each message. `read_template` renders a tokenizer's own template with
placeholders, once, and cuts it into slots; `ChatEncoder` fills the slots with token ids and so equals
`apply_chat_template`, for every template of the ChatML kind (Qwen2.5 inserts a system message, Qwen3 an empty think
block), at the speed of the Rust tokenizer: control tokens are off in content, and each distinct line is encoded once.

    <|im_start|>  user\\n  What is an ETF?  <|im_end|> \\n <|im_start|>  assistant\\n  A fund ...  <|im_end|> \\n
    lead          header   content          lead                       header       content     tail
                                                                                    ^^^^^^^^^^^^^^^^^^^^^ supervised
"""

import hashlib
import html
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from fintune_kit.errors import UserError

IGNORE = -100
"""The label of a position that is not supervised, as PyTorch's cross-entropy knows it."""

_TRIMS: tuple[Callable[[str], str], ...] = (
    lambda text: text,
    lambda text: text.lstrip("\n"),
    lambda text: text.strip("\n"),
    lambda text: text.lstrip(),
    lambda text: text.strip(),
)
_QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LINE_STARTS = re.compile(r"(?<=\n)(?=[!-~])")
_ALL = 1 << 30


class Message(TypedDict):
    """One turn; `role` is system, user or assistant."""

    role: str
    content: str


@dataclass(frozen=True)
class Example:
    """A conversation as the model reads it: `tokens` int32 [n], `supervised` bool [n] (the tokens to be learned)."""

    tokens: NDArray[np.int32]
    supervised: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True)
class Examples:
    """Many examples end to end: example i is `tokens[offsets[i]:offsets[i + 1]]` (int32, bool, int64)."""

    tokens: NDArray[np.int32]
    supervised: NDArray[np.bool_]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> Example:
        part = slice(self.offsets[index], self.offsets[index + 1])
        return Example(self.tokens[part], self.supervised[part])

    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each example."""
        return np.diff(self.offsets)

    @staticmethod
    def concatenate(parts: Sequence["Examples"]) -> "Examples":
        """All examples of `parts`, in order."""
        lengths = [part.lengths() for part in parts]
        return Examples(
            np.concatenate([part.tokens for part in parts] or [np.zeros(0, np.int32)]),
            np.concatenate([part.supervised for part in parts] or [np.zeros(0, bool)]),
            np.cumsum(np.concatenate([np.zeros(1, np.int64), *lengths]), dtype=np.int64),
        )

    @staticmethod
    def of(examples: Sequence[Example]) -> "Examples":
        """Lays single examples end to end."""
        ends = [np.array([0, len(example)], np.int64) for example in examples]
        return Examples.concatenate([Examples(e.tokens, e.supervised, o) for e, o in zip(examples, ends, strict=True)])


def find_fault(messages: Sequence[Any]) -> str | None:
    """What keeps `messages` from being a conversation to learn from, in words; None where nothing does.

    System first and at most once (it may be empty: the template writes an empty one), then user and assistant in
    turn, beginning with user and ending with assistant, none of them empty or blank.
    """
    roles = [message.get("role") for message in messages]
    for number, message in enumerate(messages):
        content = message.get("content")
        if not isinstance(content, str):
            return f"message {number} has content of type {type(content).__name__}, expected text"
        if not content.strip() and roles[number] != "system":
            return f"message {number} ({roles[number]}) is empty"
    turns = roles[1:] if roles[:1] == ["system"] else roles
    for number, role in enumerate(turns, start=len(roles) - len(turns)):
        expected = "user" if (number - (len(roles) - len(turns))) % 2 == 0 else "assistant"
        if role != expected:
            return f"message {number} has role {role!r}, expected {expected!r}"
    if not turns or turns[-1] != "assistant":
        return f"the last message has role {roles[-1]!r}, expected 'assistant'" if roles else "there is no message"
    return None


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
        raise _unknown(tokenizer, "it has no chat template")
    slots: dict[str, Slot] = {}
    for roles in ("system user assistant user assistant user assistant", "user assistant"):
        messages = [Message(role=role, content=f"[[{number}]]") for number, role in enumerate(roles.split())]
        fixed = _fixed_text(tokenizer, messages)
        for number, place in enumerate(places(messages)):
            lead, header = _split_lead(tokenizer, fixed[number])
            slots[place] = Slot(lead, header, _trim_of(tokenizer, messages, number, fixed))
    lead, rest = _split_lead(tokenizer, fixed[-1])
    return Template(slots, (*lead, *_ids(tokenizer, rest)))


def _fixed_text(tokenizer: Any, messages: Sequence[Message]) -> list[str]:
    """What a template writes before each content and after the last."""
    pieces, text = [], _render(tokenizer, messages)
    for message in messages:
        before, found, text = text.partition(message["content"])
        if not found:
            raise _unknown(tokenizer, f"it leaves out a message of role {message['role']}")
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
    raise _unknown(tokenizer, f"it rewrites the content of a message of role {messages[number]['role']}")


def _split_lead(tokenizer: Any, text: str) -> tuple[tuple[int, ...], str]:
    """Fixed text, cut after its last control token."""
    controls = sorted((token.content for token in tokenizer.added_tokens_decoder.values()), key=len, reverse=True)
    found = list(re.finditer("|".join(map(re.escape, controls)), text)) if controls else []
    if not found:
        raise _unknown(tokenizer, f"no control token stands in {text!r}")
    return _ids(tokenizer, text[: found[-1].end()]), text[found[-1].end() :]


def _render(tokenizer: Any, messages: Sequence[Message]) -> str:
    return tokenizer.apply_chat_template(list(messages), tokenize=False)


def _ids(tokenizer: Any, text: str) -> tuple[int, ...]:
    return tuple(tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids)


def _unknown(tokenizer: Any, why: str) -> UserError:
    return UserError(
        f"the chat template of {tokenizer.name_or_path or type(tokenizer).__name__!r} cannot be used: {why}; expected "
        "ChatML as of Qwen2.5 or Qwen3: name such a tokenizer with --tokenizer or FINTUNE_TOKENIZER"
    )


class ChatEncoder:
    """Conversations into tokens and supervised masks, exactly as `tokenizer.apply_chat_template` writes them.

    Supervised are each answer's content and the control token that closes it. What the template writes by itself is
    not, so neither is Qwen3's empty think block: at inference it is part of the prompt (`enable_thinking=False`). A
    token that begins in the header and ends in the content (blank lines merge) is not supervised either.
    """

    def __init__(self, tokenizer: Any) -> None:
        """Reads the template and checks it on small conversations.

        Raises:
            UserError: the template is unknown, or the pad token is the end token (the model would never learn to stop).
        """
        self.tokenizer = tokenizer
        self.template = read_template(tokenizer)
        self.end_id: int = self.template.tail[0]
        self.pad_id: int = self.end_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        if self.pad_id == self.end_id:
            raise UserError(
                f"the tokenizer's pad token is {tokenizer.pad_token!r}, which must not be the token that ends an answer; "
                "set pad_token to '<|endoftext|>' in tokenizer_config.json"
            )
        description = json.loads(tokenizer.backend_tokenizer.to_str())
        self.fingerprint = _fingerprint(description, tokenizer)
        # Without its added tokens the tokenizer reads a control token's text as ordinary characters.
        self._plain = type(tokenizer.backend_tokenizer).from_str(
            json.dumps({**description, "added_tokens": [], "truncation": None, "padding": None})
        )
        self._cuts_lines = _QWEN_SPLIT in json.dumps(description["pre_tokenizer"], ensure_ascii=False).replace(
            "\\\\", "\\"
        )
        self._check_against_template()

    @classmethod
    def load(cls, source: str | Path) -> "ChatEncoder":
        """The encoder of a hub id's or folder's tokenizer; no remote code runs.

        Raises:
            UserError: no tokenizer is there, or its template is unknown.
        """
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(str(source), trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise UserError(
                f"no tokenizer could be loaded from {str(source)!r} ({str(error).splitlines()[0]}); expected a hub id "
                "or a folder with tokenizer.json: check --tokenizer or FINTUNE_TOKENIZER"
            ) from error
        return cls(tokenizer)

    def encode(self, conversations: Sequence[Sequence[Message]]) -> list[Example]:
        """Tokens and supervised masks of conversations that have no fault (`find_fault`)."""
        examples = next(self.encode_batches([conversations]))
        return [examples[index] for index in range(len(examples))]

    def lengths(self, conversations: Sequence[Sequence[Message]]) -> NDArray[np.int64]:
        """Tokens of each conversation, int64 [n]."""
        return next(self.encode_batches([conversations])).lengths()

    def encode_batches(self, batches: Iterable[Sequence[Sequence[Message]]]) -> Iterator[Examples]:
        """Encodes batch after batch; a line that an earlier batch held is not encoded again."""
        pool = _LinePool(self._plain, [slot.lead for slot in self.template.slots.values()], self.template.tail)
        leads = {place: number for number, place in enumerate(self.template.slots)}
        for conversations in batches:
            parts = _Parts([], [], [], [])
            for messages in conversations:
                self._lay_out(messages, pool=pool, parts=parts, leads=leads)
            yield pool.gather(parts)

    def _lay_out(
        self, messages: Sequence[Message], *, pool: "_LinePool", parts: "_Parts", leads: dict[str, int]
    ) -> None:
        answered = False
        for message, place in zip(messages, places(messages), strict=True):
            slot = self.template.slots[place]
            parts.add(leads[place], 0, 1 if answered else 0)  # a lead begins with the answer's closing token
            answered = message["role"] == "assistant"
            text = slot.header + slot.trim(message["content"])
            header = len(slot.header)
            for line in _LINE_STARTS.split(text) if self._cuts_lines else [text]:
                inside = max(0, min(header, len(line)))
                header -= inside
                skipped = pool.tokens_begun(line, inside) if answered and inside < len(line) else 0
                parts.add(pool.number(line), skipped, _ALL if answered and inside < len(line) else 0)
        parts.add(len(leads), 0, 1)
        parts.ends.append(len(parts.numbers))

    def _check_against_template(self) -> None:
        """Compares a few conversations with the template's own rendering, text edges included."""
        contents = ["Hello, world 12.5%", "  two\n\nlines\n", "\n\n- é ünï\r\n\r\n", "\tx\n y"]
        for system in (None, "", *contents):
            for turns in (1, 2, 3):
                texts = [contents[(turns + number) % len(contents)] for number in range(2 * turns)]
                roles = ["user", "assistant"] * turns
                if system is not None:
                    roles, texts = ["system", *roles], [system, *texts]
                messages = [Message(role=role, content=text) for role, text in zip(roles, texts, strict=True)]
                expected = self.tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)
                if self.encode([messages])[0].tokens.tolist() != list(expected):
                    raise _unknown(self.tokenizer, f"its tokens for {messages!r} could not be reproduced")


@dataclass(frozen=True)
class _Parts:
    """Examples as pieces of the pool; of each piece the tokens from `first` to before `last` are supervised."""

    numbers: list[int]
    first: list[int]
    last: list[int]
    ends: list[int]

    def add(self, number: int, first: int, last: int) -> None:
        self.numbers.append(number)
        self.first.append(first)
        self.last.append(last)


class _LinePool:
    """Token ids of every distinct line, each encoded once.

    Lines are known by digest: keeping their text would hold the whole data set in memory.
    """

    def __init__(self, tokenizer: Any, leads: Sequence[tuple[int, ...]], tail: tuple[int, ...]) -> None:
        self._tokenizer = tokenizer
        self._numbers: dict[bytes, int] = {}
        self._waiting: list[str] = []
        self._tokens = np.zeros(1 << 16, np.int32)
        self._starts = np.zeros(1, np.int64)
        self._begun: dict[tuple[str, int], int] = {}
        self._store([list(lead) for lead in [*leads, tail]])

    def number(self, line: str) -> int:
        key = hashlib.blake2b(line.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        number = self._numbers.get(key)
        if number is None:
            number = len(self._starts) - 1 + len(self._waiting)
            self._numbers[key] = number
            self._waiting.append(line)
        return number

    def tokens_begun(self, line: str, characters: int) -> int:
        """How many tokens of `line` begin within its first `characters`; for a line that straddles its header."""
        if not characters:
            return 0
        bytes_left = len(line[:characters].encode())
        tokens = self._tokenizer.encode(line, add_special_tokens=False).tokens
        begins = np.cumsum([0, *map(len, tokens)])[:-1]  # a byte-level token writes each byte as one character
        return int((begins < bytes_left).sum())

    def gather(self, parts: _Parts) -> Examples:
        """Encodes what is waiting and lays the parts end to end."""
        encodings = self._tokenizer.encode_batch_fast(self._waiting, add_special_tokens=False)
        self._waiting = []
        self._store([encoding.ids for encoding in encodings])
        numbers = np.array(parts.numbers, np.int64)
        lengths = (self._starts[1:] - self._starts[:-1])[numbers]
        ends = np.cumsum(lengths)
        within = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths)
        tokens = self._tokens[within + np.repeat(self._starts[numbers], lengths)]
        supervised = within >= np.repeat(np.array(parts.first, np.int64), lengths)
        supervised &= within < np.repeat(np.array(parts.last, np.int64), lengths)
        borders = np.concatenate([[0], ends])[np.array([0, *parts.ends], np.int64)]
        return Examples(tokens, supervised, borders)

    def _store(self, lines: Sequence[Sequence[int]]) -> None:
        lengths = np.fromiter(map(len, lines), np.int64, len(lines))
        used, added = int(self._starts[-1]), int(lengths.sum())
        if used + added > len(self._tokens):
            self._tokens = np.concatenate([self._tokens[:used], np.zeros(added + used // 2, np.int32)])
        self._tokens[used : used + added] = np.fromiter((i for line in lines for i in line), np.int32, added)
        self._starts = np.concatenate([self._starts, used + np.cumsum(lengths)])


def _fingerprint(description: dict[str, Any], tokenizer: Any) -> str:
    """SHA-256 of all that decides which tokens a conversation becomes."""
    decisive = {key: description[key] for key in ("model", "added_tokens", "normalizer", "pre_tokenizer")}
    special = [tokenizer.chat_template, tokenizer.pad_token, tokenizer.eos_token]
    return hashlib.sha256(json.dumps([decisive, special], sort_keys=True).encode()).hexdigest()
