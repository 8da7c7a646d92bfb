"""Answers one question of the user with the base and with the adapter, side by side.

    pair = open_pair(recipe, workspace)
    pair.ask("Profit fell 8 % on lower sales.", system="sentiment_analysis", say=lambda who, piece: print(piece))

The answers are greedy, as in the evaluation. Before the first answer `open_pair` checks that the two models really
differ. Otherwise a comparison of a model with itself would look like an adapter without effect.
"""

import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from transformers import TextStreamer

from fintune_kit.chat.encoder import ChatEncoder
from fintune_kit.conversations import Conversation, Message, read_conversations
from fintune_kit.errors import MissingInputError, UserError
from fintune_kit.evaluate.generation import greedy_config, prompt_tokens, show_signature
from fintune_kit.evaluate.models import MODELS, answering_as, compute_here, load_model
from fintune_kit.evaluate.scoring import Compute
from fintune_kit.hardware import check_machine, find_machine
from fintune_kit.recipes import Recipe
from fintune_kit.tiny import base_of
from fintune_kit.workspace import Workspace

Say = Callable[[str, str], None]
"""A function that gets `base` or `adapter` and the next piece of that model's answer."""
MAX_NEW_TOKENS = 256
_PROBE = "Profit rose 12 % in the third quarter. Is that good news?"


def ask(
    recipe: Recipe,
    workspace: Workspace,
    question: str,
    *,
    adapter: Path | None = None,
    base: str | Path | None = None,
    system: str | None = None,
    max_new_tokens: int = MAX_NEW_TOKENS,
    say: Say | None = None,
) -> dict[str, str]:
    """Loads both models and answers one question: `{"base": "...", "adapter": "..."}`.

    Args:
        question: the user's message.
        adapter: folder of any PEFT adapter; None takes the workspace's.
        base: hub id or folder of the base model; None takes the recipe's.
        system: a system prompt, or a task type such as `sentiment_analysis`, which stands for its most frequent system
            prompt in training. With None, the chat template decides about the system message.
        max_new_tokens: a longer answer is cut here.
        say: called with each new piece while an answer is written.

    Raises:
        UserError: the question is empty, an input is missing, or the adapter has weights but no effect.
    """
    pair = open_pair(recipe, workspace, adapter=adapter, base=base)
    return pair.ask(question, system=system, max_new_tokens=max_new_tokens, say=say)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The base and the adapter, loaded once, for any number of questions."""

    model: Any
    """A PEFT model."""
    encoder: ChatEncoder
    compute: Compute
    prompts: dict[str, str]
    """The most frequent system prompt of each task type in training; empty without training data."""
    difference: float
    """The largest difference between both models' logits after a probe text; 0 if the adapter has learned nothing."""

    def ask(
        self, question: str, *, system: str | None = None, max_new_tokens: int = MAX_NEW_TOKENS, say: Say | None = None
    ) -> dict[str, str]:
        """Answers one question. Arguments, result and errors are those of the function `ask`."""
        if not question.strip():
            raise UserError("the question is empty; expected some text: write one")
        messages = [Message(role="user", content=question)]
        if system is not None:
            messages.insert(0, Message(role="system", content=self.prompts.get(system, system)))
        answers = {}
        for who in MODELS:
            with answering_as(who, self.model):
                answers[who] = self._answer(who, messages, max_new_tokens=max_new_tokens, say=say)
        return answers

    @torch.inference_mode()
    def _answer(self, who: str, messages: list[Message], *, max_new_tokens: int, say: Say | None) -> str:
        causal_lm = self.model.get_base_model()
        show_signature(causal_lm)
        tokens = torch.from_numpy(prompt_tokens([messages], encoder=self.encoder)[0])[None].to(self.compute.device)
        room = causal_lm.config.max_position_embeddings - tokens.shape[1]
        if room < 1:
            raise UserError(
                f"the question has {tokens.shape[1]} tokens, the model reads at most "
                f"{causal_lm.config.max_position_embeddings}: shorten it"
            )
        with self.compute.autocast():
            out = causal_lm.generate(
                input_ids=tokens,
                attention_mask=torch.ones_like(tokens),
                generation_config=greedy_config(self.encoder, max_new_tokens=min(max_new_tokens, room)),
                streamer=_Pieces(self.encoder, who, say) if say else None,
            )
        return str(self.encoder.tokenizer.decode(out[0, tokens.shape[1] :], skip_special_tokens=True)).strip()


class _Pieces(TextStreamer):
    """Hands each finished piece of an answer to `say`."""

    def __init__(self, encoder: ChatEncoder, who: str, say: Say) -> None:
        super().__init__(encoder.tokenizer, skip_prompt=True, skip_special_tokens=True)
        self._who, self._say = who, say

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Passes a piece on, unless it is empty."""
        if text:
            self._say(self._who, text)


def open_pair(
    recipe: Recipe, workspace: Workspace, *, adapter: Path | None = None, base: str | Path | None = None
) -> Pair:
    """Loads the base with the adapter and checks that the two differ. Arguments and errors are those of `ask`."""
    machine = find_machine()
    check_machine(machine)
    compute = compute_here(recipe, machine)
    source = base or base_of(recipe, workspace)
    model = load_model(recipe, base=source, adapter=adapter or workspace.existing("adapter"), compute=compute)
    model.get_base_model().eval()
    encoder = ChatEncoder.load(recipe.tokenizer or source)
    return Pair(
        model=model,
        encoder=encoder,
        compute=compute,
        prompts=_prompts_of(workspace),
        difference=check_models_differ(model, encoder=encoder, compute=compute),
    )


@torch.inference_mode()
def check_models_differ(model: Any, *, encoder: ChatEncoder, compute: Compute) -> float:
    """The largest difference between the two models' logits after a probe text.

    It is 0 if every B matrix of the adapter is zero; then the adapter has learned nothing.

    Raises:
        UserError: the B matrices are not zero, but both models have the same logits.
    """
    tokens = torch.from_numpy(prompt_tokens([[Message(role="user", content=_PROBE)]], encoder=encoder)[0])
    logits = {}
    for who in MODELS:
        with answering_as(who, model), compute.autocast():
            output = model.get_base_model()(input_ids=tokens[None].to(compute.device), use_cache=False)
            logits[who] = output.logits[0, -1].float()
    difference = float((logits["adapter"] - logits["base"]).abs().max())
    learned = any(bool(p.any()) for name, p in model.named_parameters() if ".lora_B." in name)
    if learned and difference == 0:
        raise UserError(
            "base and adapter give the same logits, though the adapter's matrices are not zero; expected two models: "
            "check that the adapter was made for this base"
        )
    return difference


def print_pieces() -> Say:
    """A `say` function that prints each answer while it is written, after the name of its model."""
    last = ""

    def say(who: str, piece: str) -> None:
        nonlocal last
        head = "" if who == last else f"{chr(10) if last else ''}[{who}] "
        last = who
        print(head + piece, end="", flush=True)

    return say


def side_by_side(answers: Mapping[str, str], *, width: int = 56) -> str:
    """Both answers in two columns of plain text.

    base                        adapter
    The profit fell because     negative
    sales were lower.
    """
    columns = [[who, *_wrapped(answers[who], width)] for who in MODELS]
    lines = zip_longest(*columns, fillvalue="")
    return "\n".join(f"{left:<{width}}  {right}".rstrip() for left, right in lines)


def _wrapped(text: str, width: int) -> list[str]:
    return [part for line in text.split("\n") for part in (textwrap.wrap(line, width) or [""])]


def system_prompts(train: Iterable[Conversation]) -> dict[str, str]:
    """The most frequent system prompt of each task type. Task types without a system prompt are left out."""
    counts: dict[str, Counter[str]] = {}
    for conversation in train:
        if conversation.system:
            counts.setdefault(conversation.task_type, Counter())[conversation.system] += 1
    return {task_type: found.most_common(1)[0][0] for task_type, found in sorted(counts.items())}


def _prompts_of(workspace: Workspace) -> dict[str, str]:
    """The system prompts of the workspace's training conversations; `{}` if it holds no conversations."""
    try:
        return system_prompts(read_conversations(workspace.existing("conversations"), "train"))
    except MissingInputError:
        return {}
