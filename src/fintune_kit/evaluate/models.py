"""The two models of an evaluation: the base alone, and the base with the adapter.

They share one copy in memory, and `answering_as` switches the adapter off and on. Without an adapter, only the base
answers.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from fintune_kit.chat.encoder import ChatEncoder
from fintune_kit.conversations import Message
from fintune_kit.evaluate.generation import GeneratedText, generate_answers
from fintune_kit.evaluate.judging import judge
from fintune_kit.evaluate.progress import Progress
from fintune_kit.evaluate.results import Answer, choose
from fintune_kit.evaluate.scoring import Compute, score_choices
from fintune_kit.evaluate.tasks import Question, Task
from fintune_kit.hardware import Machine
from fintune_kit.pack.store import Packed
from fintune_kit.recipes import Recipe
from fintune_kit.train.model import load_adapter, load_base
from fintune_kit.train.validation import mean_loss

MODELS = ("base", "adapter")
MAX_CPU_LENGTH = 1024
"""Positions in a pack on a CPU. Attention over longer packs would take most of the time there."""


def compute_here(recipe: Recipe, machine: Machine) -> Compute:
    """Device and precision as in training. Packs have the recipe's length, on a CPU at most `MAX_CPU_LENGTH`."""
    if not machine.cards:
        return Compute(device="cpu", length=min(recipe.pack.max_length, MAX_CPU_LENGTH))
    gib = machine.cards[0].memory_bytes // 2**30
    compute = Compute(device="cuda:0", length=recipe.pack.max_length, micro_batch=max(1, gib // 8))
    return replace(compute, dtype=machine.dtype)


def load_model(recipe: Recipe, *, base: str | Path, adapter: Path | None, compute: Compute) -> Any:
    """The base as in training, with the adapter if one is given.

    Raises:
        UserError: the base or the adapter is missing, or they do not fit together.
    """
    fresh = load_base(
        base,
        dtype=compute.dtype,
        quantization=recipe.train.quantization,
        device=compute.device,
        head_chunk=compute.head_chunk,
    )
    return fresh if adapter is None else load_adapter(fresh, adapter)


def models_in(model: Any) -> tuple[str, ...]:
    """The models that can answer: `base`, and `adapter` if one is loaded."""
    return MODELS if hasattr(model, "disable_adapter") else MODELS[:1]


def answering_as(who: str, model: Any) -> AbstractContextManager[Any]:
    """In this context the model answers as `base` (adapter off) or as `adapter` (adapter on)."""
    has_adapter = "adapter" in models_in(model)
    return model.disable_adapter() if who == "base" and has_adapter else nullcontext()


def validation_losses(model: Any, packs: Packed | None, *, compute: Compute) -> dict[str, Any]:
    """The mean validation loss of each model in nats per supervised token, and the number of these tokens.

    A loss is None without packs, and without supervised tokens.
    """
    losses: dict[str, Any] = {"base": None, "adapter": None, "supervised_tokens": 0}
    if packs is None or len(packs.validation.rows) == 0:
        return losses
    for who in models_in(model):
        with answering_as(who, model):
            loss, losses["supervised_tokens"] = mean_loss(
                model,
                packs.validation.rows,
                micro_batch=compute.micro_batch,
                device=compute.device,
                dtype=compute.dtype,
            )
        losses[who] = loss if losses["supervised_tokens"] else None
    return losses


def answer_tasks(
    who: str, model: Any, tasks: Sequence[Task], *, encoder: ChatEncoder, compute: Compute, progress: Progress
) -> dict[str, list[Answer]]:
    """The answers of one model to each task, by task name. Answers of a killed run are used again.

    Args:
        who: `base` or `adapter`.
        progress: keeps the answers of each finished task.
    """
    found = {}
    for task in tasks:
        answers = progress.load(who, task)
        if answers is None:
            with answering_as(who, model):
                answers = answer_task(model, task, encoder=encoder, compute=compute, label=f"{who}: {task.title}")
            progress.save(who, task, answers)
        found[task.name] = answers
    return found


def answer_task(model: Any, task: Task, *, encoder: ChatEncoder, compute: Compute, label: str) -> list[Answer]:
    """The answers of a model to one task, in the order of its questions. `label` names the progress bar."""
    if task.is_choice:
        return choose(task, score_choices(model, task.questions, encoder=encoder, compute=compute, label=label))
    generated: dict[int, GeneratedText] = {}
    for turn in sorted({question.turn for question in task.questions}):
        asked = [index for index, question in enumerate(task.questions) if question.turn == turn]
        questions = [_with_earlier_answers(task.questions[index], task, generated) for index in asked]
        answers = generate_answers(
            model, questions, encoder=encoder, compute=compute, max_new_tokens=task.max_new_tokens, label=label
        )
        generated |= dict(zip(asked, answers, strict=True))
    return judge(task, [generated[index] for index in range(len(task.questions))])


def _with_earlier_answers(question: Question, task: Task, generated: dict[int, GeneratedText]) -> Question:
    """Replaces `{answer0}`, `{answer1}`, ... in a dialogue's prompt by the model's own answers to its earlier turns."""
    if not question.dialogue:
        return question
    earlier = {
        f"{{answer{task.questions[index].turn}}}": answer.text
        for index, answer in generated.items()
        if task.questions[index].dialogue == question.dialogue
    }
    messages = []
    for message in question.messages:
        content = message["content"]
        for placeholder, text in earlier.items():
            content = content.replace(placeholder, text)
        messages.append(Message(role=message["role"], content=content))
    return replace(question, messages=tuple(messages))
