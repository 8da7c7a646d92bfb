"""Published numbers, shown beside ours only where the rows are the same ones.

FinGPT's are weighted F1 of generated text in which everything unreadable counts as "neutral" (`change_target` in its
benchmark code), which flatters silence; ours counts it as wrong.
"""

from typing import Any

FINGPT = "FinGPT README, https://github.com/AI4Finance-Foundation/FinGPT"
_TASKS = ("fpb", "fiqa_sa", "tfns", "nwgi")
_WEIGHTED_F1: dict[str, tuple[float | None, ...]] = {
    "FinGPT v3.3, Llama2-13B LoRA": (0.882, 0.874, 0.903, 0.643),
    "FinGPT v3.2, Llama2-7B LoRA": (0.850, 0.860, 0.894, 0.636),
    "FinGPT, ChatGLM2-6B QLoRA": (0.777, 0.752, 0.828, 0.583),
    "FinGPT, Qwen-7B LoRA": (0.854, 0.867, 0.883, 0.638),
    "GPT-4": (0.833, 0.630, 0.808, None),
    "FinBERT": (0.880, 0.596, 0.733, 0.538),
    "Llama2-7B, not tuned": (0.390, 0.800, 0.296, 0.503),
}


def published(task: str, *, rows: int, expected_rows: int) -> list[dict[str, Any]]:
    """Weighted F1 that others report on a task; empty where the split is not the whole of the same one.

    Args:
        task: a key of `known.KNOWN`.
        rows: that we evaluated.
        expected_rows: of the published split.
    """
    if task not in _TASKS or rows != expected_rows:
        return []
    column = _TASKS.index(task)
    return [
        {"model": model, "weighted_f1": values[column], "source": FINGPT}
        for model, values in _WEIGHTED_F1.items()
        if values[column] is not None
    ]
