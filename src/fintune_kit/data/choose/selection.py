"""Which N of the conversations that pass are chosen.

Balanced, the N are shared out over strata: a task type and its label. All open answers of a task type are one stratum,
whatever dataset they come from, so that they compete with each other. A large stratum gives more rows than a small one,
in proportion to the square root of its size. While others still have rows, no task gives more than `MAX_TASK_SHARE`,
and no label more than `MAX_LABEL_SHARE` of its task. Within a stratum the best score comes first, and the seed decides
between equal scores. Otherwise all rows of a source are one stratum.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from fintune_kit.conversations import Conversation
from fintune_kit.data.choose.split import order_key
from fintune_kit.data.read.sources import Source

MAX_TASK_SHARE = 0.35
"""Of the chosen conversations."""
MAX_LABEL_SHARE = 0.5
"""Of a task's chosen conversations."""

Selection = Literal["random", "balanced", "best"]
K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Stratum:
    """Rows that compete with each other."""

    source: str
    """Empty where the sources are pooled."""
    task_type: str = ""
    label: str = ""


def select(
    conversations: Sequence[Conversation],
    kept: Sequence[int],
    *,
    examples: int,
    labels: Sequence[str],
    is_balanced: bool,
    scores: Mapping[int, float],
    sources: Sequence[Source],
    seed: int,
) -> list[int]:
    """The chosen indices in ascending order: all that are kept, where these are not more than `examples`."""
    has_marks = any(source.count is not None or source.weight is not None for source in sources)
    strata: dict[Stratum, list[int]] = defaultdict(list)
    for index in kept:
        source = conversations[index].source if has_marks else ""
        stratum = Stratum(source, conversations[index].task_type, labels[index]) if is_balanced else Stratum(source)
        strata[stratum].append(index)
    sizes: Counter[str] = Counter()
    for stratum, indices in strata.items():
        sizes[stratum.source] += len(indices)
    shares = _share_over_sources(sizes, examples=examples, sources=sources) if has_marks else {"": examples}
    chosen: list[int] = []
    for source, share in shares.items():
        own = {stratum: indices for stratum, indices in strata.items() if stratum.source == source}
        for stratum, quota in _share_over_strata({s: len(indices) for s, indices in own.items()}, share).items():
            ranked = sorted(own[stratum], key=lambda i: (-scores[i], order_key(conversations[i].row_id, seed=seed)))
            chosen.extend(ranked[:quota])
    return sorted(chosen)


def _share_over_sources(sizes: Mapping[str, int], *, examples: int, sources: Sequence[Source]) -> dict[str, int]:
    counted = {s.name: min(s.count, sizes[s.name]) for s in sources if s.count is not None}
    if sum(counted.values()) > examples:
        return share_out(examples, sizes=counted, weights=counted)
    rest = {s.name: sizes[s.name] for s in sources if s.count is None}
    weights = {s.name: 1.0 if s.weight is None else s.weight for s in sources if s.count is None}
    return counted | share_out(examples - sum(counted.values()), sizes=rest, weights=weights)


def _share_over_strata(sizes: Mapping[Stratum, int], total: int) -> dict[Stratum, int]:
    tasks: dict[str, dict[Stratum, int]] = defaultdict(dict)
    for stratum, size in sizes.items():
        tasks[stratum.task_type][stratum] = size
    quotas: dict[Stratum, int] = {}
    task_sizes = {task: sum(own.values()) for task, own in tasks.items()}
    for task, quota in _share_by_root(total, task_sizes, cap=MAX_TASK_SHARE).items():
        quotas |= _share_by_root(quota, tasks[task], cap=MAX_LABEL_SHARE)
    return quotas


def _share_by_root(total: int, sizes: Mapping[K, int], *, cap: float) -> dict[K, int]:
    """Shares in proportion to the square root of the sizes: first up to the cap, then the rest without it."""
    weights = {key: size**0.5 for key, size in sizes.items()}
    capped = {key: min(size, math.ceil(cap * total)) for key, size in sizes.items()}
    first = share_out(total, sizes=capped, weights=weights)
    rest = {key: sizes[key] - first[key] for key in sizes}
    second = share_out(total - sum(first.values()), sizes=rest, weights=weights)
    return {key: first[key] + second[key] for key in sizes}


def share_out(total: int, *, sizes: Mapping[K, int], weights: Mapping[K, float]) -> dict[K, int]:
    """Whole numbers in proportion to the weights, none above its size, that sum to `total` where the sizes allow it.

    A share that would exceed its size is cut to it, and the others get the rest in the same proportion. Between equal
    remainders the order of the keys decides.
    """
    shares = dict.fromkeys(sizes, 0)
    growing = [key for key in sizes if sizes[key] > 0 and weights[key] > 0]
    left = min(total, sum(sizes[key] for key in growing))
    while growing and left > 0:
        weight = sum(weights[key] for key in growing)
        full = [key for key in growing if left * weights[key] / weight >= sizes[key] - shares[key]]
        if full:
            for key in full:
                left -= sizes[key] - shares[key]
                shares[key] = sizes[key]
            growing = [key for key in growing if key not in set(full)]
            continue
        exact = {key: left * weights[key] / weight for key in growing}
        for key in growing:
            shares[key] += int(exact[key])
        remainder = left - sum(int(value) for value in exact.values())
        for key in sorted(growing, key=lambda k: int(exact[k]) - exact[k])[:remainder]:
            shares[key] += 1
        left = 0
    return shares
