"""Small conversations for the tests of stage 1."""

from fintune_kit.conversations import Conversation


def conversation(
    prompt: str,
    answer: str,
    *,
    row: int = 0,
    task: str = "qa",
    system: str = "",
    group: str | None = None,
    source: str = "rows.csv",
) -> Conversation:
    """A conversation of one question and its answer.

    Args:
        group: its conversation id; None gives it one of its own.
    """
    messages = [{"role": "system", "content": system}] if system else []
    messages += [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    return Conversation(
        row_id=f"{source}#{row}",
        source=source,
        task_type=task,
        conversation_id=group or f"{source}#{row}",
        messages=messages,
    )


def conversations(*pairs: tuple[str, str], **options: str) -> list[Conversation]:
    """A conversation for each pair of question and answer."""
    return [conversation(prompt, answer, row=row, **options) for row, (prompt, answer) in enumerate(pairs, start=1)]


def all_of(rows: list[Conversation]) -> range:
    """The indices of all rows, for rules that ask which are still kept."""
    return range(len(rows))
