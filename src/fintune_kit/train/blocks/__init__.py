"""A Qwen block while it is trained: fewer kernels and passes over memory, and what is kept for the backward pass.

packed      the block on packs, as autograd functions of its own; where it cannot stand in, transformers' block runs
linear      the linear layers of a block with their adapters
weights     how frozen 4-bit weights lie in memory
recompute   whole blocks that are computed again instead of being kept
"""
