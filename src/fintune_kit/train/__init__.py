"""Stage 3: an adapter and its log from packs, the same on any machine, resumable at any moment."""

from fintune_kit.hardware import forbid_hub_kernels

forbid_hub_kernels()
