"""Fine-tune a Qwen chat model for finance on free GPUs: conversations, prefix-tree packs, QLoRA, honest scores.

The package mirrors the notebooks: `data`, `pack`, `train` and `evaluate` are the four stages, and the modules beside
this file are what all of them share. Stages meet only in files under one workspace folder (see `workspace`).
"""

__version__ = "0.1.0"
