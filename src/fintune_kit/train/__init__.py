"""Stage 3 trains an adapter on packs. A run can be resumed at any moment.

Every machine takes the same steps on the same packs in the same order, also after an interruption. On one CPU the
result is the same bit for bit. On cards it is the same to rounding, losses to about 1e-3: the backward passes of
attention and of `gather` add up in an order that changes from call to call.
"""

from fintune_kit.hardware import forbid_hub_kernels

forbid_hub_kernels()
