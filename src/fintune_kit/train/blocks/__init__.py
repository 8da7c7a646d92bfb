"""A Qwen block in training, with fewer kernels and less memory than transformers and PEFT need for the same numbers.

packed      the block on packs, as autograd functions; transformers' block runs where these cannot
linear      the linear layers of a block with their adapters
weights     the form of frozen 4-bit weights in memory
recompute   blocks that are computed again in the backward pass
"""
