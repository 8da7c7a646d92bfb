"""The whole of supervised fine-tuning on one screen: conversations, tokens, one pack, a few steps, an answer.

    python examples/sft_in_one_page.py                          a tiny random Qwen2, made here, in seconds
    python examples/sft_in_one_page.py Qwen/Qwen2.5-0.5B-Instruct

It calls the same functions as the notebooks. It leaves out the parts that make a long run safe: checkpoints, a plan for
the card, mixed precision, validation.
"""

import argparse
import tempfile
from pathlib import Path

import torch

from fintune_kit.chat.encoder import ChatEncoder
from fintune_kit.chat.examples import Examples
from fintune_kit.chat.show import show
from fintune_kit.conversations import Message
from fintune_kit.pack.tree import pack_examples, unpack
from fintune_kit.recipes import LoraRecipe
from fintune_kit.tiny import tiny_base
from fintune_kit.train.model import add_adapter, load_base
from fintune_kit.train.trainer import stack_packs
from fintune_kit.workspace import Workspace

SYSTEM = "You are a financial sentiment analyst. Only reply with positive or negative."
TEXTS = {
    "Profit rose 12 % in the third quarter.": "positive",
    "The company warned that annual profit will be lower.": "negative",
    "Orders grew for the fifth month in a row.": "positive",
    "Sales fell short of expectations.": "negative",
}
LENGTH, STEPS, LEARNING_RATE = 256, 30, 2e-3


def conversation(text: str, answer: str | None = None) -> list[Message]:
    """One question about a text, with its answer where that is known."""
    messages = [Message(role="system", content=SYSTEM), Message(role="user", content=text)]
    return messages if answer is None else [*messages, Message(role="assistant", content=answer)]


def main(base: str | Path) -> tuple[list[float], str]:
    """Trains an adapter on the four texts; returns the loss of each step, and an answer of the trained model."""
    # 1. Messages become tokens, exactly as the model's own chat template writes them. Only answers are supervised.
    encoder = ChatEncoder.load(base)
    examples = encoder.encode([conversation(text, answer) for text, answer in TEXTS.items()])
    print(show(examples[0], encoder), "\n")

    # 2. Examples become a pack. The system prompt, which all of them share, is written once.
    together = Examples.of(examples)
    packs = pack_examples(together, max_length=LENGTH, pad_id=encoder.pad_id)
    written = sum(int((pack["input_ids"] != encoder.pad_id).sum()) for pack in packs)
    print(f"{len(together.tokens)} tokens of {len(examples)} examples, written as {written} in {len(packs)} pack(s)")
    found = [example for pack in packs for example in unpack(pack)]
    if len(found) != len(examples):
        raise RuntimeError(f"the packs hold {len(found)} examples, expected {len(examples)}")

    # 3. The base is quantized to 4 bits and frozen; only the adapter learns.
    model = load_base(base, dtype="float32", quantization="nf4", device="cpu")
    model = add_adapter(model, LoraRecipe(rank=16, alpha=32, dropout=0.0), seed=0)
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=LEARNING_RATE)

    # 4. A step: the loss is summed over the supervised tokens of all packs, and divided by how many there are.
    batch = stack_packs(packs)
    supervised = batch["loss_weight"].sum()
    losses = []
    for step in range(STEPS):
        loss = model(**batch).loss / supervised
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if step % 10 == 0 or step == STEPS - 1:
            print(f"step {step + 1:>3}  loss {losses[-1]:.3f} nats a supervised token")

    # 5. The model answers in its own words, until it ends its turn.
    text, expected = next(iter(TEXTS.items()))
    answer = ask(model, encoder, conversation(text))
    print(f"\n{text}\n  answer    {answer}\n  expected  {expected}")
    return losses, answer


@torch.no_grad()
def ask(model: torch.nn.Module, encoder: ChatEncoder, messages: list[Message]) -> str:
    """The most likely answer, token after token."""
    model.eval()
    prompt = encoder.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    tokens = list(prompt)
    for _ in range(16):
        logits = model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0, -1]
        tokens.append(int(logits.argmax()))
        if tokens[-1] == encoder.end_id:
            break
    return encoder.tokenizer.decode(tokens[len(prompt) :], skip_special_tokens=True).strip()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", nargs="?", help="hub id or folder of a base model; default: a tiny random one")
    given = parser.parse_args().base
    with tempfile.TemporaryDirectory() as folder:
        main(given or tiny_base(Workspace(Path(folder)), seed=0))
