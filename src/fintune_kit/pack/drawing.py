"""A pack for the eye: as a table of its positions, and as a picture of its tree.

    level 2                 [question 1][question 2]
    level 1        [ report X ........................ ][report Y]
    level 0  [ system prompt ............................................ ] ...
             0                     position in the pack ->           2048

A bar is as wide as the positions that attend to it; its dark part is where its own tokens are written.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fintune_kit.chat.examples import IGNORE
from fintune_kit.pack.tree import COLUMNS, unpack

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLORS = {"shared prefix": "#4472a8", "one example": "#9db8d6", "supervised": "#2e9e5b", "padding": "#dddddd"}


@dataclass(frozen=True)
class Stretch:
    """A run of tokens that the same examples continue: positions `start` to before `stop`, seen until `end`."""

    start: int
    stop: int
    end: int
    level: int
    shared: bool
    padding: bool


def stretches(pack: Mapping[str, NDArray[np.int32]]) -> list[Stretch]:
    """The branches of a pack's tree, in order of position."""
    ends, depths = np.asarray(pack["subtree_end"]), np.asarray(pack["position_ids"])
    borders = np.flatnonzero((np.diff(ends) != 0) | (np.diff(depths) != 1)) + 1
    # A run goes on while `subtree_end` is the same. It ends at a branching or at the next example.
    found: list[Stretch] = []
    open_stretches: list[Stretch] = []
    for start, stop in zip([0, *borders.tolist()], [*borders.tolist(), len(ends)], strict=True):
        while open_stretches and open_stretches[-1].end <= start:
            open_stretches.pop()
        end = int(ends[start])
        padding = bool(depths[start] == 0 and end == start + 1)
        found.append(Stretch(start, stop, end, len(open_stretches), end > stop, padding))
        open_stretches.append(found[-1])
    return found


def table_of(pack: Mapping[str, NDArray[np.int32]], *, decode: Callable[[list[int]], str]) -> str:
    """A small pack as text: a line a position, with the token, the columns and the token to predict.

    Args:
        pack: its columns.
        decode: tokens to text.
    """
    headings = f"{'input_ids':>10}{'position_ids':>14}{'subtree_end':>13}{'loss_weight':>13}"
    lines = [f"{'position':>8}  {'token':<16}{headings}  predicts"]
    columns = zip(*(pack[name].tolist() for name in COLUMNS), strict=True)
    for position, (token, depth, end, label, weight) in enumerate(columns):
        target = repr(decode([label])) if label != IGNORE else "-"
        lines.append(f"{position:>8}  {decode([token])!r:<16}{token:>10}{depth:>14}{end:>13}{weight:>13}  {target}")
    return "\n".join(lines)


def draw_pack(pack: Mapping[str, NDArray[np.int32]], *, title: str | None = None) -> "Figure":
    """A pack as a picture of its tree; the default title says what sharing saved."""
    from matplotlib.patches import Patch

    from fintune_kit.plots import Picture

    bars = stretches(pack)
    padding = sum(bar.stop - bar.start for bar in bars if bar.padding)
    examples = unpack(pack)
    plain, written = sum(len(tokens) for tokens, _ in examples), len(pack["input_ids"]) - padding
    figure = Picture(figsize=(10, 0.6 + 0.45 * (2 + max(bar.level for bar in bars))), layout="constrained")
    axes = figure.subplots()
    for bar in bars:
        own = "padding" if bar.padding else "shared prefix" if bar.shared else "one example"
        if bar.shared:
            axes.barh(bar.level, bar.end - bar.start, left=bar.start, height=0.9, color=_COLORS[own], alpha=0.25)
        axes.barh(bar.level, bar.stop - bar.start, left=bar.start, height=0.9, color=_COLORS[own])
        supervised = bar.start + np.flatnonzero(np.asarray(pack["shift_labels"])[bar.start : bar.stop] != IGNORE)
        if len(supervised):
            # A conversation with several answers has several supervised runs: each is a bar.
            for run in np.split(supervised, np.flatnonzero(np.diff(supervised) > 1) + 1):
                axes.barh(bar.level, len(run), left=run[0], height=0.9, color=_COLORS["supervised"])
    axes.set_title(title or f"{len(examples)} examples of {plain} tokens, written in {written} positions")
    axes.set_xlabel(f"position in the pack of {len(pack['input_ids'])}")
    axes.set_ylabel("branchings above")
    axes.set_xlim(0, len(pack["input_ids"]))
    axes.set_yticks(range(1 + max(bar.level for bar in bars)))
    handles = [Patch(color=color, label=name) for name, color in _COLORS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    return figure
