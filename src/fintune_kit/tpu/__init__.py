"""Trains on a TPU: JAX and Tunix read the same packs, and write the same log, checkpoints and adapter as `train`.

The import of this room registers the engine of a TPU with the planner. JAX itself is imported inside functions.
"""

from fintune_kit.plan.engines import register
from fintune_kit.tpu.plan import TPU_ENGINE

register(TPU_ENGINE)
