"""Stage 4 from end to end: the base and the adapter answer the same questions, and their scores are written.

    conversations/, packed/, adapter/  ->  evaluation/  scores.json      one record for each task, validation losses
                                                        answers.parquet  one line for each question, both answers
                                                        manifest.json

The base is loaded once. The answers of each finished task are kept beside the target folder until all tasks are
finished, so a killed evaluation continues where it stopped. The caller writes the model card (`publish.model_card`).

Any PEFT adapter on any Qwen base can be evaluated. If its training data is not known, there are no validation
questions, the regression floor is cross-validated, and contamination is "unknown".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from fintune_kit.chat.encoder import ChatEncoder
from fintune_kit.conversations import Conversation, read_conversations
from fintune_kit.data.rules.contamination import shown_by
from fintune_kit.errors import UserError
from fintune_kit.evaluate.models import answer_tasks, compute_here, load_model, models_in, validation_losses
from fintune_kit.evaluate.progress import Progress
from fintune_kit.evaluate.records import add_holm, task_record
from fintune_kit.evaluate.results import Answer, write_answers
from fintune_kit.evaluate.sets.general import NAME as GENERAL
from fintune_kit.evaluate.sets.general import SAMPLE, general_tasks
from fintune_kit.evaluate.sets.named import MAX_GENERATED, load_tasks
from fintune_kit.evaluate.sets.shots import with_shots
from fintune_kit.evaluate.sets.validation import validation_tasks
from fintune_kit.evaluate.tasks import Task
from fintune_kit.evaluate.transactions import NAME as TRANSACTIONS
from fintune_kit.hardware import check_machine, find_machine
from fintune_kit.pack.store import Packed, open_packed
from fintune_kit.recipes import Recipe
from fintune_kit.tiny import base_of
from fintune_kit.train.artifacts import check_adapter, check_foreign_adapter, check_loss
from fintune_kit.train.base_id import base_id
from fintune_kit.train.model import load_config
from fintune_kit.workspace import (
    MANIFEST,
    Workspace,
    read_manifest,
    replacing_folder,
    sha256_of,
    write_json,
    write_manifest,
)

Answers = dict[str, dict[str, list[Answer]]]
"""By model and task name."""
Seen = Mapping[str, list[bool] | None]
"""By task name, whether training has shown each question; None if the training data is not known."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The folders that an evaluation reads, and the one that it writes."""

    base: str | Path
    """Hub id or folder of the base model."""
    adapter: Path | None
    """None evaluates the base alone."""
    is_ours: bool
    """Whether the adapter comes from stage 3 and has a manifest. Other PEFT adapters have none."""
    conversations: Path | None
    packed: Path | None
    transactions: Path | None
    out: Path

    def hashes(self) -> dict[str, str]:
        """SHA-256 of the manifest of each input stage, and of the weights of an adapter that is not ours."""
        stages = {"conversations": self.conversations, "packed": self.packed, "transactions": self.transactions}
        found = {name: sha256_of(folder / MANIFEST) for name, folder in stages.items() if folder is not None}
        if self.adapter is not None:
            found["adapter"] = sha256_of(self.adapter / (MANIFEST if self.is_ours else "adapter_model.safetensors"))
        return found


def evaluate(
    recipe: Recipe,
    workspace: Workspace,
    *,
    tasks: Sequence[str] = (),
    base: str | Path | None = None,
    adapter: Path | None = None,
    conversations: Path | None = None,
    packed: Path | None = None,
    transactions: Path | None = None,
    out: Path | None = None,
    max_generated: int = MAX_GENERATED,
    shots: int = 0,
) -> dict[str, Any]:
    """Scores base and adapter on the validation conversations, on general knowledge and on `tasks`.

    By default each folder is that of the workspace. But a base that is given, or an adapter without stage 3's
    manifest, has nothing to do with the workspace. Then only the given folders are read.

    Args:
        tasks: further tasks, by name or file (see `sets.named`).
        base: hub id or folder of a base model; None takes the recipe's.
        adapter: folder of a PEFT adapter. With `base` and without `adapter`, the base alone is evaluated.
        conversations, packed: folders of stages 1 and 2.
        transactions: folder of labelled transactions, for the task `transactions`.
        out: folder to write; None takes `evaluation/` in the workspace.
        max_generated: free-text questions in each task.
        shots: solved examples before each question of the named choice tasks.

    Returns:
        The content of `scores.json`.

    Raises:
        UserError: an input is missing or damaged, or does not belong to the others.
    """
    needs_transactions = transactions is None and TRANSACTIONS in tasks
    inputs = _find_inputs(
        recipe,
        workspace,
        base=base,
        adapter=adapter,
        conversations=conversations,
        packed=packed,
        transactions=workspace.existing("transactions") if needs_transactions else transactions,
        out=out,
    )
    encoder = ChatEncoder.load(inputs.base if base else recipe.tokenizer or inputs.base)
    packs = open_packed(inputs.packed) if inputs.packed else None
    _check_tokenizers(encoder, packs=packs, inputs=inputs)
    matrices = _check_adapter(inputs)
    train = read_conversations(inputs.conversations, "train") if inputs.conversations else []
    asked = _tasks(inputs, train, names=tasks, max_generated=max_generated, shots=shots, seed=recipe.seed)
    seen = seen_in_training(asked, train if inputs.conversations else None)
    scores, answers = _ask(recipe, inputs, asked, encoder=encoder, packs=packs)
    scores["adapter"] = matrices
    scores["tasks"] = _records(asked, answers, seen, seed=recipe.seed)
    _write(inputs, recipe, scores, asked, answers, seen)
    return scores


def seen_in_training(tasks: Sequence[Task], train: Sequence[Conversation] | None) -> dict[str, list[bool] | None]:
    """By task name, whether the training conversations hold each question; None if they are not known."""
    if train is None:
        return {task.name: None for task in tasks}
    flags = iter(shown_by(train, [question.text for task in tasks for question in task.questions]))
    return {task.name: list(islice(flags, len(task.questions))) for task in tasks}


def _records(tasks: Sequence[Task], answers: Answers, seen: Seen, *, seed: int) -> list[dict[str, Any]]:
    """The record of each task, with p-values corrected for the number of tasks."""
    records = []
    for task in tasks:
        given = {who: by_task[task.name] for who, by_task in answers.items()}
        records.append(task_record(task, given, seen=seen[task.name], seed=seed))
    add_holm(records)
    return records


def _find_inputs(
    recipe: Recipe,
    workspace: Workspace,
    *,
    base: str | Path | None,
    adapter: Path | None,
    conversations: Path | None,
    packed: Path | None,
    transactions: Path | None,
    out: Path | None,
) -> Inputs:
    """Takes missing inputs from the workspace, if the adapter is one of stage 3 on the recipe's base."""
    is_ours = base is None and (adapter is None or (adapter / MANIFEST).is_file() or not adapter.is_dir())
    if is_ours:
        adapter = adapter or workspace.existing("adapter")
        conversations = conversations or workspace.existing("conversations")
        packed = packed or workspace.existing("packed")
    return Inputs(
        base=base or base_of(recipe, workspace),
        adapter=adapter,
        is_ours=is_ours or (adapter is not None and (adapter / MANIFEST).is_file()),
        conversations=conversations,
        packed=packed,
        transactions=transactions,
        out=out or workspace.folder("evaluation"),
    )


def _tasks(
    inputs: Inputs,
    train: Sequence[Conversation],
    *,
    names: Sequence[str],
    max_generated: int,
    shots: int,
    seed: int,
) -> list[Task]:
    """All tasks of this evaluation.

    Raises:
        UserError: two tasks have the same name.
    """
    validation = read_conversations(inputs.conversations, "validation") if inputs.conversations else []
    tasks = validation_tasks(train, validation, max_generated=max_generated)
    tasks += [] if GENERAL in names else general_tasks(max_questions=SAMPLE)
    named = load_tasks(names, train=train, transactions=inputs.transactions, max_generated=max_generated)
    tasks += [with_shots(task, shots=shots, seed=seed) for task in named]
    found = [task.name for task in tasks]
    twice = next((name for name in found if found.count(name) > 1), None)
    if twice:
        raise UserError(f"two tasks have the name {twice!r}; expected each name once: rename a file, or give it once")
    return tasks


def _ask(
    recipe: Recipe, inputs: Inputs, tasks: Sequence[Task], *, encoder: ChatEncoder, packs: Packed | None
) -> tuple[dict[str, Any], Answers]:
    """Runs both models. Returns the facts of the run for `scores.json`, and the answers."""
    machine = find_machine()
    check_machine(machine)
    compute = compute_here(recipe, machine)
    made = read_manifest(inputs.adapter, stage="adapter") if inputs.adapter and inputs.is_ours else {}
    settings = {
        "model": made.get("base") or base_id(inputs.base),
        "quantization": recipe.train.quantization,
        "dtype": compute.dtype,
    }
    model = load_model(recipe, base=inputs.base, adapter=inputs.adapter, compute=compute)
    loss = validation_losses(model, packs, compute=compute)
    loss["when_training_ended"] = made.get("validation_loss")
    if inputs.adapter is not None and loss["adapter"] is not None:
        check_loss(loss["adapter"], loss["when_training_ended"], folder=inputs.adapter)
    progress = Progress(_progress_folder(inputs.out), identity=[inputs.hashes(), made.get("files"), settings])
    answers = {
        who: answer_tasks(who, model, tasks, encoder=encoder, compute=compute, progress=progress)
        for who in models_in(model)
    }
    return {"recipe": recipe.name, **settings, "machine": machine.name, "loss": loss}, answers


def _write(
    inputs: Inputs, recipe: Recipe, scores: dict[str, Any], tasks: Sequence[Task], answers: Answers, seen: Seen
) -> None:
    """Writes the folder of the evaluation, then removes the answers that `progress` kept."""
    with replacing_folder(inputs.out) as folder:
        write_json(folder / "scores.json", scores)
        write_answers(folder / "answers.parquet", tasks, answers, seen=seen)
        write_manifest(
            folder,
            stage="evaluation",
            inputs=inputs.hashes(),
            counts={"tasks": len(tasks), "questions": sum(len(task.questions) for task in tasks)},
            recipe=recipe.as_dict(),
        )
    Progress(_progress_folder(inputs.out), identity=None).remove()


def _progress_folder(out: Path) -> Path:
    return out.with_name(out.name + ".progress")


def _check_adapter(inputs: Inputs) -> dict[str, Any] | None:
    if inputs.adapter is None:
        return None
    if inputs.is_ours:
        return check_adapter(inputs.adapter, base_config=load_config(inputs.base))
    return check_foreign_adapter(inputs.adapter)


def _check_tokenizers(encoder: ChatEncoder, *, packs: Packed | None, inputs: Inputs) -> None:
    name = encoder.tokenizer.name_or_path
    has_tokenizer = inputs.adapter is not None and (inputs.is_ours or (inputs.adapter / "tokenizer.json").is_file())
    if inputs.adapter and has_tokenizer and ChatEncoder.load(inputs.adapter).fingerprint != encoder.fingerprint:
        raise UserError(
            f"{inputs.adapter} was trained with another tokenizer than {name!r}; expected the same one in all stages: "
            f"set FINTUNE_TOKENIZER to the adapter's folder"
        )
    if packs is not None and packs.manifest["tokenizer"]["fingerprint"] != encoder.fingerprint:
        raise UserError(
            f"{inputs.packed} was packed with another tokenizer than {name!r}; expected the same one in all stages: "
            f"run notebook 02 again, or set FINTUNE_TOKENIZER"
        )
