"""From a recipe and a machine to a plan: micro-batch, what is recomputed, memory and hours.

    recipe + shape of the base + counts of the packs + device  ->  plan

Everything here is arithmetic. Nothing touches a device, and PyTorch is not imported. Devices of another kind (a TPU)
bring their own arithmetic: they register an engine (`engines.py`).

devices.py   the cards that are known, and what they can do
shapes.py    the sizes of the Qwen models
memory.py    bytes on one device, by what takes them
time.py      operations, and the hours that they take
layouts.py   the ways to lay out an optimizer step, and which of those that fit is the fastest
engines.py   a kind of device: its precision and its layouts
plan.py      the plan
"""
