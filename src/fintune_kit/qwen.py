"""The properties that all dense models from Qwen2 to Qwen3 share, and that this package relies on."""

SPLIT_RULE = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How a tokenizer cuts text into pieces before it merges: contractions, words, single digits, punctuation, line ends,
blanks.

No piece crosses a newline and a visible character after it. No piece crosses a character and the space after it, where
a visible character follows that space. The pieces on one side do not depend on the other side. So a text may be cut at
these places and its parts encoded one by one.
"""

CONTROL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
"""Pad, and the two that mark a turn, in the order of their ids."""
