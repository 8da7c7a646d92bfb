"""The loss of packs where trees are larger than a pack, or where few of them fit into one.

    python benchmarks/pack_cuts.py --data ../shared/data --out results/pack-cuts

On reports and conversations that `growing.py` writes. A tree that is cut writes the path to the cut again: these
positions are lost to cuts. The proven least of positions and packs says how much of the loss no packer can avoid.
"""

import argparse
from pathlib import Path

from growing import conversations, reports
from pack import MAX_LENGTH

from fintune_kit.chat.encoder import ChatEncoder
from fintune_kit.chat.examples import Examples
from fintune_kit.pack.tree import arrange

SETS = {
    "reports of 1,200 tokens, 60 questions": lambda: reports(100, sentences=37, questions=60),
    "reports of 600 tokens, 10 questions": lambda: reports(300),
    "conversations of 30 turns": lambda: conversations(100, turns=30),
    "conversations of 8 turns": lambda: conversations(300),
}
HEAD = """| set | packer | positions | least | lost to cuts | packs | least | fill |
|---|---|---|---|---|---|---|---|"""


def main() -> None:
    """Packs each set, with and without shared answers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the tokenizer")
    parser.add_argument("--out", type=Path, help="the table, without suffix: .md is written")
    arguments = parser.parse_args()
    encoder = ChatEncoder.load(arguments.data / "qwen2.5-tokenizer")
    lines = [HEAD]
    for name, rows in SETS.items():
        examples = next(encoder.encode_batches([list(rows())]))
        assert examples.lengths().max() <= MAX_LENGTH, "an example does not fit into a pack"
        lines += [line_of(name, examples, share_answers=share) for share in (False, True)]
    text = "\n".join(lines)
    print(text)
    if arguments.out:
        arguments.out.with_suffix(".md").write_text(text + "\n", encoding="utf-8")


def line_of(name: str, examples: Examples, *, share_answers: bool) -> str:
    """One line of the table."""
    made = arrange(examples, max_length=MAX_LENGTH, share_answers=share_answers)
    positions = int((examples.lengths()[made.members] - made.shared).sum())
    lost = (positions - made.tree) / positions
    packer = "shared answers" if share_answers else "shared prompts"
    fill = positions / (len(made) * MAX_LENGTH)
    return (
        f"| {name} | {packer} | {positions:,} | {made.min_tokens:,} | {lost:.1%} "
        f"| {len(made):,} | {made.min_packs:,} | {fill:.3f} |"
    )


if __name__ == "__main__":
    main()
