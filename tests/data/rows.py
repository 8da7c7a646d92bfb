"""Small candidates for the tests of stage 1."""

from fintune_kit.data.corpus import Candidate


def candidate(
    prompt: str,
    answer: str,
    *,
    row: int = 0,
    task: str = "qa",
    system: str = "",
    conversation: str | None = None,
    origin: str = "rows",
    source: str = "rows.csv",
) -> Candidate:
    """A conversation of one question and its answer."""
    messages = [{"role": "system", "content": system}] if system else []
    messages += [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    return Candidate(
        row_id=f"{source}#{row}",
        source=source,
        origin=origin,
        task_type=task,
        conversation_id=conversation or f"{source}#{row}",
        messages=messages,
        row={"question": prompt, "answer": answer},
    )


def candidates(*pairs: tuple[str, str], **options: str) -> list[Candidate]:
    """A candidate a pair of question and answer."""
    return [candidate(prompt, answer, row=row, **options) for row, (prompt, answer) in enumerate(pairs, start=1)]
