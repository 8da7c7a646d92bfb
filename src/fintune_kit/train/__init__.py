"""Stage 3 trains an adapter on packs. The result is the same on any machine, and a run can be resumed at any moment."""

from fintune_kit.hardware import forbid_hub_kernels

forbid_hub_kernels()
