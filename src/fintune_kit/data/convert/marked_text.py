"""Whole conversations in one text, with a mark before each turn.

    <|im_start|>user\\nWhat is an ETF?<|im_end|>\\n<|im_start|>assistant\\nA fund.<|im_end|>     ChatML
    ### Human: What is an ETF?### Assistant: A fund.                                           and ### Instruction, ...
    <s>[INST] What is an ETF? [/INST] A fund.</s>                                              Llama 2
    <|user|>\\nWhat is an ETF?</s>\\n<|assistant|>\\nA fund.</s>                                  Zephyr
    <|start_header_id|>user<|end_header_id|>\\n\\nWhat is an ETF?<|eot_id|>...                   Llama 3
    <start_of_turn>user\\nWhat is an ETF?<end_of_turn>\\n<start_of_turn>model\\nA fund.<end_of_turn>   Gemma

Text before the first mark becomes the system prompt.
"""

import re

from fintune_kit.conversations import Message
from fintune_kit.data.convert.cells import RowError, says_nothing
from fintune_kit.data.convert.turns import parse_turns

_CHATML = re.compile(r"<\|im_start\|>([^\n]*)\n(.*?)(?:<\|im_end\|>\s*|\Z)", re.DOTALL)
_NAMES = {
    "human": "user", "user": "user", "instruction": "user", "question": "user", "input": "input", "context": "input",
    "assistant": "assistant", "response": "assistant", "answer": "assistant", "output": "assistant", "gpt": "assistant",
    "model": "assistant", "system": "system",
}  # fmt: skip
_MARKS = (
    re.compile(r"(?m)#{2,4} ?(human|user|instruction|question|input|context|assistant|response|answer|output|system):"
               r"[ \t]*\n?", re.IGNORECASE),
    re.compile(r"<\|(system|user|assistant)\|>[ \t]*\n?"),
    re.compile(r"<\|start_header_id\|>(system|user|assistant)<\|end_header_id\|>\s*"),
    re.compile(r"<start_of_turn>(user|model)\s*\n?"),
)  # fmt: skip
_INST = re.compile(r"\[INST\](.*?)\[/INST\](.*?)(?=\[INST\]|\Z)", re.DOTALL)
_LLAMA_SYSTEM = re.compile(r"\A\s*<<SYS>>(.*?)<</SYS>>", re.DOTALL)
_CLOSING = re.compile(r"</?s>|<\|eot_id\|>|<\|end_of_text\|>|<\|begin_of_text\|>|<end_of_turn>|<bos>|<eos>|"
                      r"<\|endoftext\|>|<\|end\|>")  # fmt: skip


def holds_turns(text: str) -> bool:
    """Whether a text has a question and an answer with a mark before each."""
    if "<|im_start|>" in text or ("[INST]" in text and "[/INST]" in text):
        return True
    return _mark_of(text) is not None


def parse_marked(text: str) -> list[Message]:
    """The messages of a text that holds a conversation with marks.

    Raises:
        RowError: text stands outside the turns of ChatML, or a role is unknown.
    """
    if "<|im_start|>" in text:
        return _parse_chatml(text)
    if mark := _mark_of(text):
        return _parse_marks(text, mark)
    return _parse_llama(text)


def _mark_of(text: str) -> re.Pattern[str] | None:
    for mark in _MARKS:
        roles = [_NAMES[name.lower()] for name in mark.findall(text)]
        if "user" in roles and "assistant" in roles[roles.index("user") :]:
            return mark
    return None


def _parse_chatml(text: str) -> list[Message]:
    if outside := _CHATML.sub("", text).strip():
        raise RowError("roles", f"text stands outside the ChatML turns: {outside[:80]!r}")
    return parse_turns([{"role": role, "content": content} for role, content in _CHATML.findall(text)])


def _parse_marks(text: str, mark: re.Pattern[str]) -> list[Message]:
    before, *parts = mark.split(text)
    messages: list[Message] = []
    if before := _CLOSING.sub("", before).strip():
        messages.append({"role": "system", "content": before})
    for name, content in zip(parts[::2], parts[1::2], strict=True):
        role, content = _NAMES[name.lower()], _CLOSING.sub("", content).strip()
        if role == "input":
            if messages and messages[-1]["role"] == "user" and not says_nothing(content, is_context=True):
                messages[-1]["content"] += f"\n\n{content}"
            continue
        messages.append({"role": role, "content": content})
    return messages


def _parse_llama(text: str) -> list[Message]:
    messages: list[Message] = []
    for question, answer in _INST.findall(text):
        if system := _LLAMA_SYSTEM.match(question):
            messages.append({"role": "system", "content": system[1].strip()})
        messages.append({"role": "user", "content": _LLAMA_SYSTEM.sub("", question).strip()})
        messages.append({"role": "assistant", "content": _CLOSING.sub("", answer).strip()})
    return messages
