"""Conversations become tokens here, and each token is marked as supervised or not."""
