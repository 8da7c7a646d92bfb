"""Scores that others have published. They are shown beside ours only if the questions are the same.

The way of asking is not the same: FinGPT reads every unreadable answer as "neutral", FLARE looks for the first option
in generated text, and we compare likelihoods. The source beside each number says so.
"""

from typing import Any

from fintune_kit.evaluate.sets.benchmarks import BENCHMARKS

FINGPT = "FinGPT README, https://github.com/AI4Finance-Foundation/FinGPT; unreadable counts as neutral"
PIXIU = "PIXIU README, https://github.com/The-FinAI/PIXIU; first option found in generated text"
_FINGPT_WEIGHTED_F1: dict[str, dict[str, float]] = {
    "fpb": {
        "FinGPT v3.3, Llama2-13B LoRA": 0.882, "FinGPT v3.2, Llama2-7B LoRA": 0.850, "FinGPT, ChatGLM2-6B QLoRA": 0.777,
        "FinGPT, Qwen-7B LoRA": 0.854, "GPT-4": 0.833, "FinBERT": 0.880, "Llama2-7B, not tuned": 0.390,
    },
    "fiqa_sa": {
        "FinGPT v3.3, Llama2-13B LoRA": 0.874, "FinGPT v3.2, Llama2-7B LoRA": 0.860, "FinGPT, ChatGLM2-6B QLoRA": 0.752,
        "FinGPT, Qwen-7B LoRA": 0.867, "GPT-4": 0.630, "FinBERT": 0.596, "Llama2-7B, not tuned": 0.800,
    },
    "tfns": {
        "FinGPT v3.3, Llama2-13B LoRA": 0.903, "FinGPT v3.2, Llama2-7B LoRA": 0.894, "FinGPT, ChatGLM2-6B QLoRA": 0.828,
        "FinGPT, Qwen-7B LoRA": 0.883, "GPT-4": 0.808, "FinBERT": 0.733, "Llama2-7B, not tuned": 0.296,
    },
    "nwgi": {
        "FinGPT v3.3, Llama2-13B LoRA": 0.643, "FinGPT v3.2, Llama2-7B LoRA": 0.636, "FinGPT, ChatGLM2-6B QLoRA": 0.583,
        "FinGPT, Qwen-7B LoRA": 0.638, "FinBERT": 0.538, "Llama2-7B, not tuned": 0.503,
    },
}  # fmt: skip
_PIXIU: dict[str, tuple[str, dict[str, float]]] = {
    "flare_fpb": ("weighted F1", {"ChatGPT": 0.78, "GPT-4": 0.78, "FinMA-7B": 0.86, "FinMA-30B": 0.88}),
    "flare_fiqasa": ("weighted F1", {"FinMA-7B": 0.84, "FinMA-30B": 0.87}),
    "flare_headlines": ("average F1", {"ChatGPT": 0.77, "GPT-4": 0.86, "FinMA-7B": 0.98}),
    "flare_ner": ("entity F1", {"ChatGPT": 0.77, "GPT-4": 0.83, "FinMA-7B": 0.75}),
    "flare_finqa": ("exact match", {"ChatGPT": 0.58, "GPT-4": 0.63, "FinMA-7B": 0.06, "FinMA-30B": 0.11}),
    "flare_convfinqa": ("exact match", {"ChatGPT": 0.60, "GPT-4": 0.76, "FinMA-7B": 0.25, "FinMA-30B": 0.40}),
}


def published(task: str, *, rows: int) -> list[dict[str, Any]]:
    """The published scores of a task: `model`, `metric`, `value`, `source`. Empty if the questions are not the same.

    Args:
        task: the task's name. Only keys of `BENCHMARKS` have published scores.
        rows: the number of questions that we asked. It must be the whole published split.
    """
    if task not in BENCHMARKS or rows != BENCHMARKS[task].rows:
        return []
    if task in _FINGPT_WEIGHTED_F1:
        metric, values, source = "weighted F1", _FINGPT_WEIGHTED_F1[task], FINGPT
    elif task in _PIXIU:
        (metric, values), source = _PIXIU[task], PIXIU
    else:
        return []
    return [{"model": model, "metric": metric, "value": value, "source": source} for model, value in values.items()]
