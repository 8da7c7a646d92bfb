"""Makes a plan from a recipe and a machine: micro-batch, recomputed blocks, memory and hours.

    recipe + shape of the base + counts of the packs + device  ->  plan

Everything here is arithmetic: it uses no device, and does not import PyTorch. Another kind of device, such as a TPU,
has its own arithmetic. It registers an engine (`engines.py`).

devices.py   the known cards, with their memory and rates
shapes.py    the sizes of the Qwen models
memory.py    bytes on one device, by purpose
time.py      operations, and the hours for them
layouts.py   the possible layouts of an optimizer step, and the fastest one that fits
engines.py   the kinds of devices, each with its precision and its layouts
plan.py      the plan
"""
