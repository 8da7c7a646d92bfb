"""`fintune-kit ask`: the base and the adapter answer one question of the user."""

from pathlib import Path

from fintune_kit.cli.flags import Count
from fintune_kit.cli.opening import DEFAULT_CHOICE, RecipeChoice


def ask(
    question: str,
    /,
    *,
    adapter: Path | None = None,
    base: str | None = None,
    system: str | None = None,
    max_new_tokens: Count = 256,
    recipe: RecipeChoice = DEFAULT_CHOICE,
) -> None:
    """Answer a question with the base and with the adapter, side by side.

    Args:
        question: Your message to the model.
        adapter: The folder that `fintune-kit train` wrote, or any PEFT adapter. Default: the workspace's.
        base: A base model, by hub id or folder. Default: the recipe's.
        system: A system prompt, or a task type such as sentiment_analysis, which stands for its usual system prompt.
        max_new_tokens: A longer answer is cut.
    """
    from fintune_kit.evaluate.ask import ask as answer
    from fintune_kit.evaluate.ask import print_pieces, side_by_side

    chosen, workspace = recipe.open()
    answers = answer(
        chosen,
        workspace,
        question,
        adapter=adapter,
        base=base,
        system=system,
        max_new_tokens=max_new_tokens,
        say=print_pieces(),
    )
    print(f"\n\n{side_by_side(answers)}")
