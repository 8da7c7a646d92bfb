"""Stage 4 from end to end: the base and the adapter on the same questions, side by side.

conversations/, packed/, adapter/  ->  evaluation/  scores.json      a record a task, and the validation losses
                                                    answers.parquet  a row a question, both models' answers
                                                    manifest.json

The base is loaded once; the adapter is switched off and on. Each (model, task) that is done is kept beside the target
folder until all are, so a killed run goes on where it was.
"""

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from fintune_kit.chat.encoder import ChatEncoder
from fintune_kit.conversations import Conversation, read_conversations
from fintune_kit.errors import UserError
from fintune_kit.evaluate.contamination import TrainingText, contaminated
from fintune_kit.evaluate.declared import load_tasks
from fintune_kit.evaluate.general import general_tasks
from fintune_kit.evaluate.generation import generate_answers
from fintune_kit.evaluate.heldout import heldout_tasks
from fintune_kit.evaluate.judging import judge
from fintune_kit.evaluate.progress import Progress
from fintune_kit.evaluate.records import task_record
from fintune_kit.evaluate.results import Answer, choose, write_answers
from fintune_kit.evaluate.scoring import Compute, score_choices
from fintune_kit.evaluate.tasks import Task
from fintune_kit.hardware import Machine, check_machine, find_machine
from fintune_kit.pack.store import Packed, open_packed
from fintune_kit.publish.model_card import write_model_card
from fintune_kit.recipes import Recipe
from fintune_kit.train.artifacts import check_adapter, check_loss
from fintune_kit.train.model import load_adapter, load_base, load_config
from fintune_kit.train.validation import mean_loss
from fintune_kit.workspace import MANIFEST, read_manifest, replacing_folder, sha256_of, write_json, write_manifest

MODELS = ("base", "adapter")
MOST_GENERATED = 100
"""Free-text rows a task: their interval is then some 15 points wide, for minutes rather than hours."""


def evaluate(
    recipe: Recipe,
    *,
    base: str | Path,
    adapter: Path,
    conversations: Path,
    packed: Path,
    out: Path,
    run: Path | None = None,
    tasks: Sequence[str] = (),
    transactions: Path | None = None,
    most_generated: int = MOST_GENERATED,
) -> dict[str, Any]:
    """Scores base and adapter on the held-out conversations and on `tasks`.

    Args:
        base: hub id or folder of the base model.
        adapter: stage 3's folder.
        conversations: stage 1's folder.
        packed: stage 2's folder.
        out: where the evaluation goes.
        run: stage 3's other folder; with it the model card is written, beside the adapter where that can be written,
            else beside the scores.
        tasks: further tasks, by name or file (`declared.load_tasks`).
        transactions: labelled transactions, where `tasks` names `transactions`.
        most_generated: free-text rows a task.

    Returns:
        What `scores.json` holds.

    Raises:
        UserError: an input is missing, damaged or does not belong to the others.
    """
    made = read_manifest(adapter, stage="adapter")
    packs = open_packed(packed)
    encoder = ChatEncoder.load(recipe.tokenizer or base)
    _check_tokenizers(encoder, packs=packs, packed=packed, adapter=adapter)
    matrices = check_adapter(adapter, base_config=load_config(base))
    train, validation = (read_conversations(conversations, split) for split in ("train", "validation"))
    asked = heldout_tasks(train, validation, most_rows=None, most_generated=most_generated) + general_tasks()
    asked += load_tasks(tasks, train=train, transactions=transactions, most_generated=most_generated)
    _check_names(asked)
    seen = seen_in_training(asked, train)

    machine = find_machine()
    check_machine(machine)
    compute = compute_here(recipe, machine)
    model = load_model(recipe, base=base, adapter=adapter, compute=compute)
    settings = {"model": made["base"], "quantization": recipe.train.quantization, "dtype": compute.dtype}
    loss = losses(model, packs, compute=compute)
    loss["when_training_ended"] = made.get("validation_loss")
    check_loss(loss["adapter"], loss["when_training_ended"], folder=adapter)
    progress = Progress(out.with_name(out.name + ".progress"), identity=[made["files"], settings])
    answers = {
        who: answer_tasks(who, model, asked, encoder=encoder, compute=compute, progress=progress) for who in MODELS
    }
    records = [
        task_record(task, *(answers[who][task.name] for who in MODELS), seen=seen[task.name], seed=recipe.seed)
        for task in asked
    ]
    scores = {"recipe": recipe.name, **settings, "machine": machine.name, "adapter": matrices, "loss": loss}
    scores["tasks"] = records
    with replacing_folder(out) as folder:
        write_json(folder / "scores.json", scores)
        write_answers(folder / "answers.parquet", asked, answers, seen=seen)
        inputs = {"adapter": adapter, "conversations": conversations, "packed": packed}
        inputs |= {"transactions": transactions} if transactions else {}
        write_manifest(
            folder,
            stage="evaluation",
            inputs={name: sha256_of(path / MANIFEST) for name, path in inputs.items()},
            counts={"tasks": len(asked), "questions": sum(len(task.questions) for task in asked)},
            recipe=recipe.as_dict(),
        )
    progress.remove()
    if run is not None:
        card = (adapter if os.access(adapter, os.W_OK) else out) / "README.md"  # Kaggle's inputs are read-only
        write_model_card(adapter, run=run, packed=packed, conversations=conversations, evaluation=out, out=card)
    return scores


def load_model(recipe: Recipe, *, base: str | Path, adapter: Path, compute: Compute) -> Any:
    """The base as in training, with the adapter on it."""
    quantization, chunk = recipe.train.quantization, compute.head_chunk
    fresh = load_base(base, dtype=compute.dtype, quantization=quantization, device=compute.device, head_chunk=chunk)
    return load_adapter(fresh, adapter)


def losses(model: Any, packs: Packed, *, compute: Compute) -> dict[str, Any]:
    """Mean validation loss of both models, in nats a supervised token."""
    found: dict[str, Any] = {}
    for who in MODELS:
        with only(who, model):
            found[who], found["supervised_tokens"] = mean_loss(
                model,
                packs.validation.rows,
                micro_batch=compute.micro_batch,
                device=compute.device,
                dtype=compute.dtype,
            )
    return found


def only(who: str, model: Any) -> AbstractContextManager[Any]:
    """While it is open, the model answers as `base` (adapter off) or as `adapter`."""
    return model.disable_adapter() if who == "base" else nullcontext()


def seen_in_training(tasks: Sequence[Task], train: Sequence[Conversation]) -> dict[str, list[bool]]:
    """Of each task's questions, whether the training conversations hold them."""
    training = TrainingText.of([[m["content"] for m in c.messages if m["role"] != "system"] for c in train])
    return {task.name: contaminated([question.text for question in task.questions], training) for task in tasks}


def compute_here(recipe: Recipe, machine: Machine) -> Compute:
    """Device and precision as in training; packs as long as the recipe's, shorter on a CPU, where attention is dear."""
    if not machine.cards:
        return Compute(device="cpu", length=min(recipe.pack.max_length, 1024))
    gib = machine.cards[0].memory_bytes // 2**30
    compute = Compute(device="cuda:0", length=recipe.pack.max_length, micro_batch=max(1, gib // 8))
    return replace(compute, dtype=machine.dtype)


def answer_tasks(
    who: str, model: Any, tasks: Sequence[Task], *, encoder: ChatEncoder, compute: Compute, progress: Progress
) -> dict[str, list[Answer]]:
    """One model's answers to each task, those of an earlier, killed run among them."""
    found = {}
    for task in tasks:
        answers = progress.load(who, task)
        if answers is None:
            with only(who, model):
                answers = answer_task(model, task, encoder=encoder, compute=compute, label=f"{who}: {task.title}")
            progress.save(who, task, answers)
        found[task.name] = answers
    return found


def answer_task(model: Any, task: Task, *, encoder: ChatEncoder, compute: Compute, label: str) -> list[Answer]:
    """A model's answers to one task, by likelihood or in its own words."""
    if task.is_choice:
        return choose(task, score_choices(model, task.questions, encoder=encoder, compute=compute, label=label))
    generated = generate_answers(
        model, task.questions, encoder=encoder, compute=compute, max_new_tokens=task.max_new_tokens, label=label
    )
    return judge(task, generated)


def _check_names(tasks: Sequence[Task]) -> None:
    names = [task.name for task in tasks]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise UserError(f"two tasks are called {twice!r}; expected each name once: rename a file, or name it once")


def _check_tokenizers(encoder: ChatEncoder, *, packs: Packed, packed: Path, adapter: Path) -> None:
    if ChatEncoder.load(adapter).fingerprint != encoder.fingerprint:
        raise UserError(
            f"{adapter} was trained with another tokenizer than {encoder.tokenizer.name_or_path!r}; expected the same "
            f"one in all stages: set FINTUNE_TOKENIZER to the one that lies beside the adapter"
        )
    if packs.manifest["tokenizer"]["fingerprint"] != encoder.fingerprint:
        raise UserError(
            f"{packed} was packed with another tokenizer than {encoder.tokenizer.name_or_path!r}; expected the same "
            f"one in all stages: run notebook 02 again, or set FINTUNE_TOKENIZER"
        )
