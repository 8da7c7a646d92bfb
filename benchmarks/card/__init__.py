"""The first hour on a card: one module a step, each with its result in a file of its own as soon as it is there.

prepare       here      wheels, packs and questions into one folder under 64 MiB
environment ... chain   on the card, in this order; `python -m benchmarks.card` runs them one after the other
"""
