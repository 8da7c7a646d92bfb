"""Training on a TPU: JAX and Tunix compute the same packs into the same log, checkpoints and adapter as `train`.

Importing this room tells the planner about TPUs. JAX itself is imported inside functions.
"""

from fintune_kit.plan.engines import register
from fintune_kit.tpu.plan import TPU_ENGINE

register(TPU_ENGINE)
