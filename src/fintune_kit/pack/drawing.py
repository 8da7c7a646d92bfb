"""A pack drawn as its tree: what is written once, what each example adds, and where the model learns.

    level 2                 [question 1][question 2]
    level 1        [ report X ........................ ][report Y]
    level 0  [ system prompt ............................................ ] ...
             0                     position in the pack ->           2048

A bar is as wide as what sees it; its dark part is where its own tokens are written.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fintune_kit.chat.examples import IGNORE
from fintune_kit.pack.tree import unpack

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


def stretches(row: Mapping[str, NDArray[np.int32]]) -> list[Stretch]:
    """The branches of a packed row's tree, in order of position."""
    ends, depths = np.asarray(row["subtree_end"]), np.asarray(row["position_ids"])
    borders = np.flatnonzero((np.diff(ends) != 0) | (np.diff(depths) != 1)) + 1
    # Consecutive private tokens of a leaf end at the same place; only a branching or a new example parts a run.
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


def draw_pack(row: Mapping[str, NDArray[np.int32]], *, title: str | None = None) -> "Figure":
    """A packed row as a picture of its tree; the default title says what sharing saved."""
    from matplotlib.patches import Patch

    from fintune_kit.plots import Picture

    bars = stretches(row)
    padding = sum(bar.stop - bar.start for bar in bars if bar.padding)
    examples = unpack(row)
    plain, written = sum(len(tokens) for tokens, _ in examples), len(row["input_ids"]) - padding
    figure = Picture(figsize=(10, 0.6 + 0.45 * (2 + max(bar.level for bar in bars))), layout="constrained")
    axes = figure.subplots()
    for bar in bars:
        own = "padding" if bar.padding else "shared prefix" if bar.shared else "one example"
        if bar.shared:
            axes.barh(bar.level, bar.end - bar.start, left=bar.start, height=0.9, color=_COLORS[own], alpha=0.25)
        axes.barh(bar.level, bar.stop - bar.start, left=bar.start, height=0.9, color=_COLORS[own])
        taught = bar.start + np.flatnonzero(np.asarray(row["shift_labels"])[bar.start : bar.stop] != IGNORE)
        if len(taught):
            # A supervised run is contiguous within an answer; where answers alternate it is several bars.
            for run in np.split(taught, np.flatnonzero(np.diff(taught) > 1) + 1):
                axes.barh(bar.level, len(run), left=run[0], height=0.9, color=_COLORS["supervised"])
    axes.set_title(title or f"{len(examples)} examples of {plain} tokens, written in {written} positions")
    axes.set_xlabel(f"position in the pack of {len(row['input_ids'])}")
    axes.set_ylabel("branchings above")
    axes.set_xlim(0, len(row["input_ids"]))
    axes.set_yticks(range(1 + max(bar.level for bar in bars)))
    handles = [Patch(color=color, label=name) for name, color in _COLORS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    return figure
