"""Conversations become tokens, and each token is supervised or not.

`ChatEncoder` writes the tokens that the tokenizer's own `apply_chat_template` writes. Two things differ on purpose:
text from data never becomes a control token, and the Rust tokenizer encodes all conversations together.

    <|im_start|> user \n What is an ETF? <|im_end|> \n <|im_start|> assistant \n A fund ... <|im_end|> \n
                                                                               ^^^^^^^^^^^^^^^^^^^^^ supervised
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fintune_kit.chat.examples import Example, Examples
from fintune_kit.chat.pool import TextLayout, TextPool
from fintune_kit.chat.template import read_template, rendered, slots_of, unknown_template
from fintune_kit.conversations import Message
from fintune_kit.errors import UserError, first_line
from fintune_kit.hub import find_hub_fault
from fintune_kit.qwen import SPLIT_RULE

_ALL = 1 << 30
"""More tokens than any text has: all of them are supervised."""


class ChatEncoder:
    """Turns conversations into tokens and supervised masks.

    The content of each answer is supervised, and so is the control token that closes it. Text that the template adds is
    not. So Qwen3's empty think block is not supervised: at inference it belongs to the prompt
    (`enable_thinking=False`). Blank lines may merge the end of the header with the start of the content into one token;
    that token is not supervised.
    """

    def __init__(self, tokenizer: Any) -> None:
        """Reads the template and checks it on small conversations.

        Raises:
            UserError: the template is unknown, or the pad token is the end token. With the latter the model would never
                learn to stop.
        """
        if not hasattr(tokenizer, "backend_tokenizer"):
            raise unknown_template(tokenizer, "the folder holds no tokenizer.json")
        self.tokenizer = tokenizer
        self.template = read_template(tokenizer)
        self.end_id: int = self.template.tail[0]
        self.pad_id: int = self.end_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        if self.pad_id == self.end_id:
            raise UserError(
                f"the tokenizer's pad token is {tokenizer.pad_token!r}, expected one that does not end an answer; set "
                "pad_token to '<|endoftext|>' in tokenizer_config.json"
            )
        description = json.loads(tokenizer.backend_tokenizer.to_str())
        if "ByteLevel" not in json.dumps(description["pre_tokenizer"]):
            raise unknown_template(tokenizer, "its tokens are not byte-level BPE")
        self.fingerprint = _fingerprint(description, tokenizer)
        # Without its added tokens the tokenizer reads a control token's text as ordinary characters.
        self._plain = type(tokenizer.backend_tokenizer).from_str(
            json.dumps({**description, "added_tokens": [], "truncation": None, "padding": None})
        )
        self._by_words = _follows_qwen(description)
        self._check_against_template()

    @classmethod
    def load(cls, source: str | Path) -> "ChatEncoder":
        """The encoder for the tokenizer of a hub id or a folder. No remote code runs.

        Raises:
            UserError: no tokenizer is there, or its template is unknown.
        """
        from transformers import AutoTokenizer

        if fault := find_hub_fault(source, file="tokenizer_config.json"):
            raise _no_tokenizer(source, fault)
        try:
            tokenizer = AutoTokenizer.from_pretrained(str(source), trust_remote_code=False)
        except Exception as error:  # the Rust library raises plain exceptions, transformers many others
            raise _no_tokenizer(source, first_line(error)[:300]) from error
        return cls(tokenizer)

    def encode(self, conversations: Sequence[Sequence[Message]]) -> list[Example]:
        """Tokens and supervised masks of conversations without a fault (`find_fault`)."""
        examples = next(self.encode_batches([conversations]))
        return [examples[index] for index in range(len(examples))]

    def lengths(self, conversations: Sequence[Sequence[Message]]) -> NDArray[np.int64]:
        """Tokens of each conversation, int64 [n]."""
        return next(self.encode_batches([conversations])).lengths()

    def encode_batches(self, batches: Iterable[Sequence[Sequence[Message]]]) -> Iterator[Examples]:
        """Encodes batch after batch. A text that stood in an earlier batch is not encoded again."""
        pool = TextPool(self._plain, by_words=self._by_words)
        leads = {name: pool.add_tokens(slot.lead) for name, slot in self.template.slots.items()}
        tail = pool.add_tokens(self.template.tail)
        for conversations in batches:
            layout = TextLayout()
            for messages in conversations:
                answered = False
                for message, slot in zip(messages, slots_of(messages), strict=True):
                    layout.add(leads[slot], 0, int(answered))  # a lead begins with the token that closes an answer
                    answered = _is_supervised(message)
                    self._lay_out(message, slot, layout=layout, pool=pool)
                layout.add(tail, 0, int(answered))
                layout.end_example()
            yield pool.gather(layout)

    def _lay_out(self, message: Message, slot_name: str, *, layout: TextLayout, pool: TextPool) -> None:
        slot = self.template.slots[slot_name]
        content = slot.trim(message["content"])
        supervised = _ALL if _is_supervised(message) else 0
        if pool.splits(slot.header, content):
            layout.add(pool.index_of(slot.header), 0, 0)
            layout.add(pool.index_of(content), 0, supervised)
        else:
            text = slot.header + content
            first = pool.tokens_begun(text, len(slot.header)) if supervised else 0
            layout.add(pool.index_of(text), first, supervised)

    def _check_against_template(self) -> None:
        """Compares a few conversations with the template's own rendering; their texts have blanks at both ends."""
        contents = ["Hello, world 12.5%", "  two\n\nlines\n", "\n\n- é ünï\r\n\r\n", "\tx\n y"]
        for system in (None, "", *contents):
            for turns in (1, 2, 3):
                texts = [contents[(turns + index) % len(contents)] for index in range(2 * turns)]
                roles = ["user", "assistant"] * turns
                if system is not None:
                    roles, texts = ["system", *roles], [system, *texts]
                messages = [Message(role=role, content=text) for role, text in zip(roles, texts, strict=True)]
                expected = rendered(self.tokenizer, messages, tokenize=True)
                if self.encode([messages])[0].tokens.tolist() != list(expected):
                    raise unknown_template(self.tokenizer, f"its tokens for {messages!r} could not be reproduced")


def _no_tokenizer(source: str | Path, why: str) -> UserError:
    return UserError(
        f"no tokenizer could be loaded from {str(source)!r} ({why}); expected a hub id or a folder with "
        f"tokenizer.json: check --tokenizer or FINTUNE_TOKENIZER"
    )


def _is_supervised(message: Message) -> bool:
    return message["role"] == "assistant" and message.get("weight") != 0


def _follows_qwen(description: dict[str, Any]) -> bool:
    """Whether a text may be cut into words: the tokenizer splits by Qwen's rule, and joins nothing across a space."""
    steps = (description["pre_tokenizer"] or {}).get("pretokenizers", [])
    rules = [step.get("pattern", {}).get("Regex") for step in steps if step["type"] == "Split"]
    normalizer = (description["normalizer"] or {"type": "NFC"})["type"]
    prefixed = any(step.get("add_prefix_space") for step in steps)
    return rules == [SPLIT_RULE] and normalizer == "NFC" and not prefixed


def _fingerprint(description: dict[str, Any], tokenizer: Any) -> str:
    """SHA-256 of everything that decides which tokens a conversation becomes."""
    decisive = {key: description[key] for key in ("added_tokens", "normalizer", "pre_tokenizer")}
    # Saving and loading turns some absent settings of the model into empty ones. Both mean the same.
    decisive["model"] = {key: value for key, value in description["model"].items() if value}
    special = [tokenizer.chat_template, tokenizer.pad_token, tokenizer.eos_token]
    return hashlib.sha256(json.dumps([decisive, special], sort_keys=True).encode()).hexdigest()
