"""Which of the chosen conversations are for validation: whole groups, so that no near-duplicate is on both sides."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def order_key(name: str, *, seed: int) -> bytes:
    """A key that sorts names in an order which depends on the seed and the names alone."""
    return hashlib.blake2b(f"{seed}\0{name}".encode(), digest_size=8).digest()


def validation_rows(groups: Sequence[str], *, task_types: Sequence[str], share: float, seed: int) -> NDArray[np.bool_]:
    """Which rows are for validation: whole groups in a seeded order, until each task type gave its share.

    Args:
        groups: for each row, the name of its group (rows of one conversation, and near-duplicates).
    """
    members: dict[str, list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        members[group].append(index)
    wanted = {task: round(count * share) for task, count in Counter(task_types).items()}
    if sum(wanted.values()) == 0 and len(members) > 1:
        wanted[max(wanted, key=lambda task: wanted[task])] = 1
    chosen = np.zeros(len(groups), bool)
    for group in sorted(members, key=lambda name: order_key(name, seed=seed)):
        rows = Counter(task_types[index] for index in members[group])
        if all(wanted[task] >= count for task, count in rows.items()):
            chosen[members[group]] = True
            for task, count in rows.items():
                wanted[task] -= count
    return chosen
