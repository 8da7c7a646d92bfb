"""Conversations become tokens here, and each token is marked as supervised or not."""

from fintune_kit.hardware import forbid_hub_kernels

forbid_hub_kernels()
