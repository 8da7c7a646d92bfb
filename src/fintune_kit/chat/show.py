"""An example as text, with the tokens that the model learns coloured: for notebooks."""

import html
from dataclasses import dataclass

import numpy as np

from fintune_kit.chat.encoder import ChatEncoder
from fintune_kit.chat.examples import Example


@dataclass(frozen=True)
class Colored:
    """Pieces of text. Supervised ones are green and underlined in a notebook, and in brackets elsewhere."""

    pieces: tuple[tuple[str, bool], ...]

    def _repr_html_(self) -> str:
        style = "background:#d5f0dd;color:#0b5a2b;text-decoration:underline"
        body = "".join(
            f'<span style="{style}">{html.escape(text)}</span>' if on else html.escape(text) for text, on in self.pieces
        )
        return f'<pre style="white-space:pre-wrap">{body}</pre>'

    def __str__(self) -> str:
        return "".join(f"[[{text}]]" if on else text for text, on in self.pieces)


def show(example: Example, encoder: ChatEncoder) -> Colored:
    """The text of an example with its supervised tokens coloured. A notebook renders the returned value."""
    borders = np.flatnonzero(np.diff(example.supervised)) + 1
    runs = np.split(example.tokens, borders)
    flags = [bool(part[0]) for part in np.split(example.supervised, borders) if len(part)]
    return Colored(tuple((encoder.tokenizer.decode(run), on) for run, on in zip(runs, flags, strict=True)))
