"""Figures from plain records: numbers in, a matplotlib figure out. Loads no model and reads no file.

Every figure has a title that says what to see, axis labels with units, and one palette. Blue is kept or learned, grey
is refused or from before, a dashed line is a limit or a floor.
"""

import io
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

KEPT, BEFORE, LIMIT, WARM = "#1f6fb2", "#b5bcc4", "#c0392b", "#e1812c"


class Picture(Figure):
    """A figure that a notebook shows as a picture: one made without pyplot is otherwise shown as its name only."""

    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        self.savefig(stream, format="png", dpi=90)
        return stream.getvalue()


def save_figure(figure: Figure, folder: Path, name: str) -> Path:
    """Writes `<folder>/<name>.png` and returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.png"
    figure.savefig(path, dpi=130)
    return path


def plot_lengths(lengths: Sequence[int], *, max_length: int, title: str = "How long the conversations are") -> Figure:
    """A histogram of tokens per conversation, on a logarithmic axis, with the pack length as a line."""
    figure, axes = _figure(title)
    values = np.asarray(lengths)
    edges = np.geomspace(max(1, values.min()), max(values.max() + 1, max_length * 1.2), 50)
    axes.hist(values, bins=edges.tolist(), color=KEPT)
    axes.axvline(max_length, color=LIMIT, linestyle="--", label=f"pack length, {max_length:,} tokens")
    axes.axvline(float(np.median(values)), color="black", linewidth=1, label=f"median, {np.median(values):,.0f} tokens")
    axes.set(xscale="log", xlabel="length (tokens, logarithmic)", ylabel="conversations")
    axes.legend(frameon=False)
    return figure


def plot_funnel(read: int, refused: Mapping[str, int], *, title: str = "From rows read to rows kept") -> Figure:
    """The rows that are left after each rule, in the order in which the rules ran."""
    figure, axes = _figure(title, height=0.42 * (len(refused) + 2) + 1.4)
    left, bars = read, [("rows read", read, 0)]
    for rule, count in refused.items():
        left -= count
        bars.append((rule.replace("_", " "), left, count))
    names = [textwrap.fill(name, 34) for name, _, _ in bars]
    positions = np.arange(len(bars))
    axes.barh(positions, [kept for _, kept, _ in bars], color=KEPT)
    axes.barh(positions, [gone for _, _, gone in bars], left=[kept for _, kept, _ in bars], color=BEFORE)
    for position, (_, kept, gone) in enumerate(bars):
        label = f"{kept:,}" + (f"  (-{gone:,})" if gone else "")
        axes.text(kept + gone + 0.01 * read, position, label, va="center", fontsize=9)
    axes.set(yticks=positions, yticklabels=names, xlabel="rows (blue: left after the rule, grey: refused by it)")
    axes.set_xlim(0, read * 1.18)
    axes.invert_yaxis()
    return figure


def plot_mix(before: Mapping[str, int], after: Mapping[str, int], *, title: str = "The mix of tasks") -> Figure:
    """Shares of the task types among rows read and conversations chosen."""
    tasks = sorted(set(before) | set(after), key=lambda task: -before.get(task, 0))
    figure, axes = _figure(title, height=0.5 * len(tasks) + 1.6)
    positions = np.arange(len(tasks))
    for offset, counts, color, label in ((-0.2, before, BEFORE, "rows read"), (0.2, after, KEPT, "chosen")):
        total = max(1, sum(counts.values()))
        shares = [100 * counts.get(task, 0) / total for task in tasks]
        axes.barh(positions + offset, shares, height=0.38, color=color, label=f"{label} ({total:,})")
    axes.set(yticks=positions, yticklabels=[task.replace("_", " ") for task in tasks], xlabel="share (%)")
    axes.invert_yaxis()
    axes.legend(frameon=False)
    return figure


def plot_labels(counts: Mapping[str, Mapping[str, int]], *, title: str = "How the labels are balanced") -> Figure:
    """One stacked bar a task, one segment a label, the largest ones named."""
    figure, axes = _figure(title, height=0.6 * len(counts) + 1.4)
    shades = [KEPT, "#5b9bd5", "#9dc3e6", "#cfe2f3", WARM, "#f0b27a", BEFORE, "#d5d8dc"]
    for row, labels in enumerate(counts.values()):
        total, left = max(1, sum(labels.values())), 0.0
        for number, (label, count) in enumerate(labels.items()):
            share = 100 * count / total
            axes.barh(row, share, left=left, color=shades[number % len(shades)], edgecolor="white")
            lines = textwrap.wrap(label, 14)
            if share > max(map(len, lines), default=0) + 1:  # a letter is about one percent wide
                axes.text(
                    left + share / 2, row, "\n".join([*lines, f"{share:.0f} %"]), ha="center", va="center", fontsize=8
                )
            left += share
    names = [task.replace("_", " ") for task in counts]
    axes.set(yticks=range(len(counts)), yticklabels=names, xlabel="share of the task's answers (%)", xlim=(0, 100))
    axes.invert_yaxis()
    return figure


def plot_pack_fill(
    fills: Sequence[float], *, plain: int, written: int, title: str = "How full the packs are"
) -> Figure:
    """Fill of each pack, and beside it the tokens that sharing prefixes saves.

    Args:
        fills: share of positions in use, one a pack, from 0 to 1.
        plain: tokens of all examples, each written whole.
        written: tokens that the packs write.
    """
    figure = Picture(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    figure.suptitle(title, fontweight="bold")
    left.hist(100 * np.asarray(fills), bins=np.linspace(0, 100, 51).tolist(), color=KEPT)
    left.set(xlabel="positions in use (% of a pack)", ylabel="packs", title=f"mean {100 * np.mean(fills):.1f} %")
    right.bar(["each example\nwhole", "prefixes\nshared"], [plain, written], color=[BEFORE, KEPT])
    for position, tokens in enumerate((plain, written)):
        right.text(position, tokens, f"{tokens:,}", ha="center", va="bottom")
    right.set(ylabel="tokens", title=f"{100 * (1 - written / plain):.0f} % fewer to compute", ylim=(0, plain * 1.15))
    _quiet(left, right)
    return figure


def plot_step_mix(examples: np.ndarray, *, tasks: Sequence[str], title: str = "Each step sees a mix") -> Figure:
    """Which tasks the examples of each optimizer step belong to, as shares.

    Args:
        examples: `[steps, tasks]` counts.
        tasks: their names.
    """
    figure, axes = _figure(title)
    shares = 100 * examples / np.maximum(1, examples.sum(axis=1, keepdims=True))
    colors = colormaps["tab10"](np.arange(len(tasks)) % 10)
    axes.stackplot(range(1, len(shares) + 1), shares.T, labels=[t.replace("_", " ") for t in tasks], colors=colors)
    axes.set(xlabel="optimizer step", ylabel="share of the step's examples (%)", ylim=(0, 100), xlim=(1, len(shares)))
    figure.legend(loc="outside right upper", frameon=False)
    return figure


def plot_loss(log: Sequence[Mapping[str, Any]], *, title: str = "Loss of each optimizer step") -> Figure:
    """Training loss, validation loss and learning rate over optimizer steps.

    Args:
        log: records of `log.jsonl`.
    """
    figure = Picture(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    figure.suptitle(title, fontweight="bold")
    steps = [record["step"] for record in log]
    values = np.array([np.nan if record["loss"] is None else record["loss"] for record in log], dtype=float)
    left.plot(steps, values, color=BEFORE, linewidth=1, label="each step")
    left.plot(steps, _running_mean(values), color=KEPT, linewidth=2, label="running mean")
    measured = [(r["step"], r["validation_loss"]) for r in log if r.get("validation_loss") is not None]
    if measured:
        at, losses = zip(*measured, strict=True)
        best = int(np.argmin(losses))
        left.plot(at, losses, color=LIMIT, marker="o", markersize=3, label="validation")
        left.scatter(at[best], losses[best], s=70, facecolors="none", edgecolors=LIMIT, zorder=3)
        left.annotate(f"best {losses[best]:.3f}", (at[best], losses[best]), xytext=(0, 9), textcoords="offset points")
    left.set(xlabel="optimizer step", ylabel="loss (nats a supervised token)")
    # Below the axes: inside, it would cover one of the curves.
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    right.plot(steps, [record["learning_rate"] for record in log], color=WARM)
    right.set(xlabel="optimizer step", ylabel="learning rate")
    right.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    _quiet(left, right)
    return figure


def live_loss(
    *, title: Callable[[Sequence[Mapping[str, Any]]], str], seconds_between: float = 5.0
) -> Callable[[Sequence[Mapping[str, Any]]], None]:
    """A watcher that draws the loss curve in place in a notebook, at most every few seconds.

    Args:
        title: says where the run is, from its log so far.
    """
    from IPython.display import display

    handle = display(display_id=True)
    drawn = 0.0

    def watch(log: Sequence[Mapping[str, Any]]) -> None:
        """Draws the log so far, if the last drawing is old enough."""
        nonlocal drawn
        if time.monotonic() - drawn >= seconds_between:
            drawn = time.monotonic()
            handle.update(plot_loss(log, title=title(log)))

    return watch


def plot_confusion(
    counts: Sequence[Sequence[int]], *, labels: Sequence[str], title: str = "What is taken for what"
) -> Figure:
    """A grid of counts. Rows are the right labels, columns the answers of the model; right answers lie on the diagonal.

    Args:
        counts: one line for each label, one column for each label; further columns are other answers.
    """
    grid = np.asarray(counts)
    if not grid.any():
        return _empty(*_figure(title), "no answer to a question with these labels")
    given = [*labels, *["(none of these)"] * (grid.shape[1] - len(labels))]
    used = [n for n, name in enumerate(given) if grid[:, n].any() or (n < len(labels) and grid[n].any())]
    rows = [n for n in used if n < len(labels)]  # labels that neither side uses only take room
    grid, labels, given = grid[np.ix_(rows, used)], [labels[n] for n in rows], [given[n] for n in used]
    side = max(3.6, 0.62 * len(labels) + 1.8)
    figure = Picture(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.subplots()
    shares = grid / np.maximum(1, grid.sum(axis=1, keepdims=True))
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(grid):
        if count:
            color = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, f"{count:,}", ha="center", va="center", color=color, fontsize=9)
    axes.set(xlabel="the model's answer", ylabel="right answer", xticks=range(len(given)), yticks=range(len(labels)))
    axes.set_xticklabels(given, rotation=40, ha="right")
    axes.set_yticklabels(labels)
    axes.set_title(title, fontweight="bold")
    figure.colorbar(image, ax=axes, label="share of the row", shrink=0.8)
    return figure


def plot_before_after(records: Sequence[Mapping[str, Any]], *, title: str = "Before and after") -> Figure:
    """Accuracy of base and adapter on each task, with 95 % intervals and the majority floor.

    Args:
        records: `task`, `base`, `adapter` (each with `accuracy` and `interval`), `majority`, `n`; shares from 0 to 1.
            Without records the figure says that no choice task was asked.
    """
    figure, axes = _figure(title, height=0.75 * max(1, len(records)) + 1.6)
    if not records:
        return _empty(figure, axes, "no task with options")
    for row, record in enumerate(records):
        for offset, who, color in ((-0.17, "base", BEFORE), (0.17, "adapter", KEPT)):
            score = record[who]
            low, high = (100 * bound for bound in score["interval"])
            value = 100 * score["accuracy"]
            axes.barh(row + offset, value, height=0.32, color=color, label=who if row == 0 else None)
            error = [[max(0.0, value - low)], [max(0.0, high - value)]]
            axes.errorbar(value, row + offset, xerr=error, color="black", capsize=2, linewidth=1)
        floor = 100 * record["majority"]
        label = None if row else "majority, or chance"
        axes.plot([floor, floor], [row - 0.4, row + 0.4], color=LIMIT, linestyle="--", label=label)
    names = [f"{record['task'].replace('_', ' ')}\n(n = {record['n']:,})" for record in records]
    axes.set(yticks=range(len(records)), yticklabels=names, xlabel="accuracy (%), 95 % interval", xlim=(0, 100))
    axes.invert_yaxis()
    axes.legend(frameon=False, loc="lower right")
    return figure


def plot_spending(
    spending: Mapping[str, Mapping[str, Any]], *, currency: str, max_categories: int = 9, title: str = ""
) -> Figure:
    """Spending by month, a stacked bar a month and a colour a category; the smallest categories are one.

    Args:
        spending: amount by category and month (`2024-03`). Amounts without a category stand under "" and are grey.
        currency: of the amounts.
        max_categories: categories with a colour of their own.
    """
    months = sorted({month for sums in spending.values() for month in sums})
    largest = sorted(filter(None, spending), key=lambda name: -float(sum(spending[name].values())))
    groups = {name: [name] for name in largest[:max_categories]} | {"all others": largest[max_categories:]}
    groups["(left open)"] = [""] if "" in spending else []
    figure, axes = _figure(title or f"Spending by month and category ({currency})", height=4.4)
    shades = [*colormaps["tab10"].colors[:7], *colormaps["Set2"].colors]  # type: ignore[attr-defined]
    above, below = np.zeros(len(months)), np.zeros(len(months))
    for number, (label, names) in enumerate(groups.items()):
        heights = np.array([sum(float(spending[name].get(month, 0)) for name in names) for month in months])
        color = {"all others": "#7f8c8d", "(left open)": BEFORE}.get(label, shades[number % len(shades)])
        if names:
            bottoms = np.where(heights < 0, below, above)  # more money back than out hangs below the axis
            axes.bar(range(len(months)), heights, bottom=bottoms, color=color, label=label)
        above, below = above + np.maximum(heights, 0), below + np.minimum(heights, 0)
    axes.set(xticks=range(len(months)), xlabel="month", ylabel=f"spent ({currency})")
    axes.set_xticklabels(months, rotation=30, ha="right")
    figure.legend(loc="outside right upper", frameon=False)
    return figure


def plot_calibration(
    confidence: Sequence[float], right: Sequence[bool], *, title: str = "Is it as sure as it is right?"
) -> Figure:
    """Accuracy of answers by the probability that the model gave them, in ten bins."""
    figure, axes = _figure(title, width=5.2, height=4.4)
    sure, hit = np.asarray(confidence, dtype=float), np.asarray(right, dtype=float)
    bins = np.clip((sure * 10).astype(int), 0, 9)
    axes.plot([0, 100], [0, 100], color=LIMIT, linestyle="--", label="calibrated")
    used = [b for b in range(10) if (bins == b).any()]
    means = [(100 * sure[bins == b].mean(), 100 * hit[bins == b].mean(), int((bins == b).sum())) for b in used]
    axes.plot([x for x, _, _ in means], [y for _, y, _ in means], color=KEPT)
    axes.scatter(
        [x for x, _, _ in means], [y for _, y, _ in means], s=[20 + 2 * n for _, _, n in means], color=KEPT, zorder=3
    )
    axes.set(xlabel="probability of the answer (%)", ylabel="right (%)", xlim=(0, 100), ylim=(0, 100))
    axes.legend(frameon=False)
    return figure


def _empty(figure: Figure, axes: Axes, words: str) -> Figure:
    """A figure that says why it shows nothing."""
    axes.text(0.5, 0.5, words, ha="center", va="center")
    axes.set_axis_off()
    return figure


def _figure(title: str, *, width: float = 9.0, height: float = 3.8) -> tuple[Figure, Axes]:
    figure = Picture(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, fontweight="bold")
    _quiet(axes)
    return figure, axes


def _quiet(*axes: Axes) -> None:
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)


def _running_mean(values: np.ndarray, window: int = 10) -> np.ndarray:
    """Mean of the last `window` values, of fewer at the start."""
    sums = np.cumsum(np.concatenate([[0.0], np.nan_to_num(values, nan=np.nanmean(values))]))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - window)
    return (sums[ends] - sums[starts]) / (ends - starts)
