"""The attention mask of a prefix tree: query q sees key k exactly when k <= q < subtree_end[k]."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def tree_mask(subtree_end: "Tensor") -> "Tensor":
    """Who sees whom: bool [B, 1, L, L], True where query (row) attends to key (column).

    `subtree_end` is an integer tensor [B, L] on any device; the mask lies on the same one. What SDPA takes as it is,
    and `torch.where(mask, 0, -inf)` of it is what eager attention adds.
    """
    import torch

    position = torch.arange(subtree_end.shape[-1], device=subtree_end.device)
    query, key = position[:, None], position[None, :]
    return ((key <= query) & (query < subtree_end[:, None, :])).unsqueeze(1)
