"""Faults on purpose, with the real command line: `make test-faults`. They take minutes, so `make unit` has none."""
