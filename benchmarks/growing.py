"""Conversations that repeat themselves, written by a generator: reports with ten questions, and chats that grow.

    reports          system, report, question 1 -> answer        system, report, question 2 -> answer        ... 10
    conversations    system, q1 -> a1        system, q1 -> a1, q2 -> a2        ...        8 turns

A report is a text of 18 sentences about a company of its own. A chat begins with a shorter one of 8 sentences. Every
question, answer and figure is drawn at random from a seed.
"""

import random
from collections.abc import Iterator

Messages = list[dict[str, str]]
SYSTEM = (
    "You are a financial analyst. Read the report that you are given and answer the question about it in one or two "
    "sentences. Use the figures of the report, name the year that they belong to, and say so where the report does "
    "not hold the answer."
)
QUESTIONS, TURNS = 10, 8
_LINES = ("Revenue", "Operating income", "Net income", "Free cash flow", "Gross margin", "Net debt", "Capital spending")
_REASONS = (
    "higher prices",
    "lower demand abroad",
    "the sale of a plant",
    "a weaker dollar",
    "new customers",
    "savings",
)
_NAMES = ("Alder", "Birch", "Cedar", "Dunmore", "Elm", "Foxley", "Garnet", "Hollin", "Iver", "Juniper", "Kestrel")
_KINDS = ("Foods", "Energy", "Logistics", "Software", "Textiles", "Insurance", "Mining", "Rail")


def reports(count: int, *, sentences: int = 18, questions: int = QUESTIONS, seed: int = 0) -> Iterator[Messages]:
    """The rows of each of `count` reports, one a question."""
    draw = random.Random(seed)  # noqa: S311 - nothing secret is drawn
    for _ in range(count):
        report = _report(draw, sentences=sentences)
        for _ in range(questions):
            question, answer = _turn(draw)
            yield _messages([(f"{report}\n\n{question}", answer)])


def conversations(count: int, *, turns: int = TURNS, seed: int = 0) -> Iterator[Messages]:
    """The rows of each of `count` conversations, one a turn; a row holds all turns up to its own."""
    draw = random.Random(seed)  # noqa: S311 - nothing secret is drawn
    for _ in range(count):
        said = [_turn(draw) for _ in range(turns)]
        said[0] = (f"{_report(draw, sentences=8)}\n\n{said[0][0]}", said[0][1])
        yield from (_messages(said[: number + 1]) for number in range(turns))


def _messages(turns: list[tuple[str, str]]) -> Messages:
    said = [pair for q, a in turns for pair in (("user", q), ("assistant", a))]
    return [{"role": role, "content": content} for role, content in [("system", SYSTEM), *said]]


def _report(draw: random.Random, *, sentences: int) -> str:
    company = f"{draw.choice(_NAMES)} {draw.choice(_KINDS)} {draw.randrange(100, 1000)}"
    return f"Annual report of {company}. " + " ".join(_fact(draw) for _ in range(sentences))


def _fact(draw: random.Random) -> str:
    year, line, moved = draw.randrange(2015, 2026), draw.choice(_LINES), draw.choice(("rose", "fell"))
    share, amount = draw.randrange(1, 400) / 10, draw.randrange(10, 9000)
    return f"In {year} {line.lower()} {moved} by {share}% to ${amount:,} million because of {draw.choice(_REASONS)}."


def _turn(draw: random.Random) -> tuple[str, str]:
    year, line = draw.randrange(2015, 2026), draw.choice(_LINES).lower()
    return f"How did {line} change in {year}, and why did it?", _fact(draw)
