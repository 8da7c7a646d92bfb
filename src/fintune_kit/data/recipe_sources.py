"""A recipe's sources, with the synthetic transactions that it adds: generated once, in the workspace.

statements/     statements.csv of nobody          (data.transactions)
transactions/   train.jsonl, unseen_merchants.jsonl     (data.categorize; unseen merchants are in the second only,
                                                         which the evaluation's task `transactions` asks)
"""

from fintune_kit.bank.conversations import TRAIN, to_conversations
from fintune_kit.bank.synthetic.generate import generate_statements
from fintune_kit.recipes import Recipe
from fintune_kit.workspace import Workspace

BATCH_SHARE = 0.1
"""Of the transactions, those that are asked for several at a time with a JSON answer."""


def sources_of(recipe: Recipe, workspace: Workspace) -> tuple[str, ...]:
    """What `prepare_conversations` reads for a recipe; writes the transactions first where the recipe has some."""
    if not recipe.data.transactions:
        return recipe.data.sources
    statements, folder = workspace.folder("statements"), workspace.folder("transactions")
    generate_statements(count=recipe.data.transactions, seed=recipe.seed, out=statements)
    to_conversations(statements, out=folder, seed=recipe.seed, batch_share=BATCH_SHARE)
    return (*recipe.data.sources, str(folder / TRAIN))
