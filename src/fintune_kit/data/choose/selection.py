"""Which N of the conversations that pass, and which of those are held out for validation.

The N are shared out over strata (a task type and its label; where answers are open, the upstream dataset) so that a big
stratum gives more than a small one but less than its size (in proportion to the square root), no task more than
`TASK_CAP` and no label more than `LABEL_CAP` of its task while others still have rows. Within a stratum the best score
comes first, and equal scores come in an order that the seed decides.
"""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fintune_kit.data.corpus import Candidate
from fintune_kit.data.read.sources import Source

TASK_CAP = 0.35
"""Of the chosen conversations."""
LABEL_CAP = 0.5
"""Of a task's chosen conversations."""
LABEL_WORDS = 5
"""A label has at most so many words ..."""
LABEL_REPEATS = 5
"""... and answers at least so many rows of its task, or a hundredth of them if that is less ..."""
CLOSED_SHARE = 0.8
"""... in a task whose rows are answered by such labels to at least this share. Else its answers are open."""
OPEN = "(open)"

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Stratum:
    """Rows that compete with one another for places."""

    source: str
    """Empty where sources are pooled."""
    task_type: str
    kind: str
    """The label; of open answers, the upstream dataset."""


def labels_of(candidates: Sequence[Candidate]) -> list[str]:
    """The label that each conversation answers with, in small letters; `(open)` where answers are no closed set."""
    answers = [(c.task_type, " ".join(c.answer.lower().split())) for c in candidates]
    repeats, tasks = Counter(answers), Counter(task for task, _ in answers)
    closed = Counter[str]()
    for (task, answer), count in repeats.items():
        if len(answer.split()) <= LABEL_WORDS and count >= min(LABEL_REPEATS, 1 + tasks[task] / 100):
            closed[task] += count
    return [answer if closed[task] >= CLOSED_SHARE * tasks[task] else OPEN for task, answer in answers]


def select(
    candidates: Sequence[Candidate],
    *,
    examples: int,
    scores: Sequence[float],
    sources: Sequence[Source],
    seed: int,
) -> list[int]:
    """Positions of the chosen conversations, in the order in which they came. All of them where no more pass."""
    marked = any(source.count is not None or source.weight is not None for source in sources)
    strata: dict[Stratum, list[int]] = defaultdict(list)
    for position, (candidate, label) in enumerate(zip(candidates, labels_of(candidates), strict=True)):
        kind = candidate.origin if label == OPEN else label
        strata[Stratum(candidate.source if marked else "", candidate.task_type, kind)].append(position)
    per_source = _share_over_sources(strata, examples=examples, sources=sources, marked=marked)
    chosen: list[int] = []
    for source, places in per_source.items():
        own = {stratum: positions for stratum, positions in strata.items() if stratum.source == source}
        for stratum, quota in _share_over_strata(own, places).items():
            ranked = sorted(own[stratum], key=lambda p: (-scores[p], order_key(candidates[p].row_id, seed=seed)))
            chosen.extend(ranked[:quota])
    return sorted(chosen)


def order_key(name: str, *, seed: int) -> bytes:
    """A key that puts names in an order which only the seed and the names decide."""
    return hashlib.blake2b(f"{seed}\0{name}".encode(), digest_size=8).digest()


def _share_over_sources(
    strata: Mapping[Stratum, list[int]], *, examples: int, sources: Sequence[Source], marked: bool
) -> dict[str, int]:
    sizes: Counter[str] = Counter()
    for stratum, positions in strata.items():
        sizes[stratum.source] += len(positions)
    if not marked:
        return {"": min(examples, sizes[""])}
    counted = {s.name: min(s.count, sizes[s.name]) for s in sources if s.count is not None}
    if sum(counted.values()) > examples:
        return water_fill(examples, sizes=counted, weights=counted)
    rest = {s.name: sizes[s.name] for s in sources if s.count is None}
    weights = {s.name: 1.0 if s.weight is None else s.weight for s in sources if s.count is None}
    return counted | water_fill(examples - sum(counted.values()), sizes=rest, weights=weights)


def _share_over_strata(strata: Mapping[Stratum, list[int]], places: int) -> dict[Stratum, int]:
    tasks: dict[str, dict[Stratum, int]] = defaultdict(dict)
    for stratum, positions in strata.items():
        tasks[stratum.task_type][stratum] = len(positions)
    sizes = {task: sum(own.values()) for task, own in tasks.items()}
    quotas: dict[Stratum, int] = {}
    for task, quota in _capped_fill(places, sizes, cap=TASK_CAP).items():
        quotas |= _capped_fill(quota, tasks[task], cap=LABEL_CAP)
    return quotas


def _capped_fill(total: int, sizes: Mapping[K, int], *, cap: float) -> dict[K, int]:
    """In proportion to the square root of the sizes; first up to the cap, then with what is left, without it."""
    weights = {key: size**0.5 for key, size in sizes.items()}
    capped = {key: min(size, math.ceil(cap * total)) for key, size in sizes.items()}
    first = water_fill(total, sizes=capped, weights=weights)
    rest = {key: sizes[key] - first[key] for key in sizes}
    second = water_fill(total - sum(first.values()), sizes=rest, weights=weights)
    return {key: first[key] + second[key] for key in sizes}


def water_fill(total: int, *, sizes: Mapping[K, int], weights: Mapping[K, float]) -> dict[K, int]:
    """Whole numbers in proportion to the weights, none above its size, with as much of `total` as the sizes allow.

    What a full one leaves is shared out among the others in the same proportion. Equal remainders go by order.
    """
    filled = dict.fromkeys(sizes, 0)
    open_keys = [key for key in sizes if sizes[key] > 0 and weights[key] > 0]
    left = min(total, sum(sizes[key] for key in open_keys))
    while open_keys and left > 0:
        weight = sum(weights[key] for key in open_keys)
        full = [key for key in open_keys if left * weights[key] / weight >= sizes[key] - filled[key]]
        if full:
            for key in full:
                left -= sizes[key] - filled[key]
                filled[key] = sizes[key]
            open_keys = [key for key in open_keys if key not in set(full)]
            continue
        exact = {key: left * weights[key] / weight for key in open_keys}
        for key in open_keys:
            filled[key] += int(exact[key])
        remainder = left - sum(int(value) for value in exact.values())
        for key in sorted(open_keys, key=lambda k: int(exact[k]) - exact[k])[:remainder]:
            filled[key] += 1
        left = 0
    return filled


def hold_out_groups(groups: Sequence[str], *, task_types: Sequence[str], share: float, seed: int) -> NDArray[np.bool_]:
    """Which rows are held out: whole groups, in a seeded order, until each task type gave its share.

    Args:
        groups: of each row, the name of its group (same conversation or near-duplicates).
    """
    members: dict[str, list[int]] = defaultdict(list)
    for position, group in enumerate(groups):
        members[group].append(position)
    wanted = {task: round(count * share) for task, count in Counter(task_types).items()}
    if sum(wanted.values()) == 0 and len(members) > 1:
        wanted[max(wanted, key=lambda task: wanted[task])] = 1
    held = np.zeros(len(groups), bool)
    for group in sorted(members, key=lambda g: order_key(g, seed=seed)):
        rows = Counter(task_types[position] for position in members[group])
        if all(wanted[task] >= count for task, count in rows.items()):
            held[members[group]] = True
            for task, count in rows.items():
                wanted[task] -= count
    return held
