"""Questions on general knowledge and arithmetic with four options each. They show whether an adapter has forgotten.

    general_knowledge     more than 120 questions of our own, in `general.jsonl`
    general_arithmetic    200 questions, made from a fixed seed: sums, products, percentages, interest, averages

They are not a benchmark. But if an adapter answers clearly fewer of them than its base, it has lost knowledge, and not
only changed its style. An evaluation asks a small, even sample of both. `--task general` asks all.
"""

import json
import random
from collections.abc import Callable
from importlib import resources

from fintune_kit.conversations import Message
from fintune_kit.evaluate.tasks import Question, Task, evenly_chosen

NAME = "general"
"""The name of both tasks for `--task`."""
SAMPLE = 20
"""Questions of each task in an evaluation without `--task general`."""
ARITHMETIC = 200
SEED = 20240405
_SYSTEM = "Answer the question. Only reply with the answer."

Kind = Callable[[random.Random], tuple[str, int, list[int]]]
"""A function that makes a question, its answer, and the answers of typical mistakes."""


def general_tasks(*, max_questions: int | None = None) -> list[Task]:
    """Both tasks, with at most `max_questions` questions each, evenly spread; None for all."""
    text = resources.files("fintune_kit.evaluate.sets").joinpath("general.jsonl").read_text(encoding="utf-8")
    knowledge = [json.loads(line) for line in text.splitlines()]
    return [
        _task("knowledge", "general knowledge", knowledge, "general.jsonl", max_questions=max_questions),
        _task("arithmetic", "arithmetic", arithmetic(), "arithmetic", max_questions=max_questions),
    ]


def arithmetic(count: int = ARITHMETIC, *, seed: int = SEED) -> list[dict[str, object]]:
    """Arithmetic questions as rows of `text`, `options` (four numbers) and `target`. A seed always gives the same."""
    chance = random.Random(seed)  # noqa: S311 - questions, not secrets
    rows: list[dict[str, object]] = []
    texts: set[str] = set()
    while len(rows) < count:
        text, answer, mistakes = _KINDS[len(rows) % len(_KINDS)](chance)
        options = list(dict.fromkeys([answer, *[m for m in mistakes if m > 0]]))[:4]
        if text in texts or len(options) < 4:
            continue
        texts.add(text)
        chance.shuffle(options)
        rows.append({"text": text, "options": [f"{option:,}" for option in options], "target": f"{answer:,}"})
    return rows


def _sum(chance: random.Random) -> tuple[str, int, list[int]]:
    a, b = chance.randint(120, 980), chance.randint(120, 980)
    return f"What is {a} + {b}?", a + b, [a + b + 10, a + b - 10, a + b + 100, a + b - 1]


def _difference(chance: random.Random) -> tuple[str, int, list[int]]:
    a, b = chance.randint(500, 990), chance.randint(110, 480)
    return f"What is {a} - {b}?", a - b, [a - b + 10, a - b - 10, a - b + 100, a + b]


def _product(chance: random.Random) -> tuple[str, int, list[int]]:
    a, b = chance.randint(6, 29), chance.randint(6, 19)
    return f"What is {a} times {b}?", a * b, [a * b + a, a * b - b, a * b + 10, a + b]


def _quotient(chance: random.Random) -> tuple[str, int, list[int]]:
    a, b = chance.randint(6, 29), chance.randint(4, 12)
    return f"What is {a * b} divided by {b}?", a, [a + 1, a - 1, a + b, 2 * a]


def _percentage(chance: random.Random) -> tuple[str, int, list[int]]:
    share, whole = chance.choice((5, 10, 15, 20, 25, 40, 75)), 20 * chance.randint(5, 60)
    answer = share * whole // 100
    return f"What is {share} % of {whole:,}?", answer, [whole - answer, answer * 2, answer + 10, answer // 2]


def _growth(chance: random.Random) -> tuple[str, int, list[int]]:
    base, rate = 100 * chance.randint(2, 40), chance.choice((5, 10, 15, 20, 25, 30))
    change = base * rate // 100
    text = f"Revenue of {base:,} grows by {rate} %. How large is it then?"
    return text, base + change, [base + rate, change, base + 2 * change, base - change]


def _interest(chance: random.Random) -> tuple[str, int, list[int]]:
    capital, rate, years = 100 * chance.randint(5, 60), chance.randint(2, 9), chance.randint(2, 6)
    interest = capital * rate * years // 100
    text = f"How much simple interest do {capital:,} earn at {rate} % a year in {years} years?"
    return text, interest, [interest // years, capital + interest, interest + capital // 100, interest * 2]


def _price(chance: random.Random) -> tuple[str, int, list[int]]:
    pieces, price = chance.randint(3, 12), chance.randint(7, 45)
    wanted = chance.randint(3, 15)
    text = f"{pieces} shares cost {pieces * price:,}. How much do {wanted} of them cost at the same price?"
    return text, wanted * price, [pieces * price + wanted, wanted * pieces, (wanted + 1) * price, (wanted - 1) * price]


def _average(chance: random.Random) -> tuple[str, int, list[int]]:
    middle, step = chance.randint(20, 90), chance.randint(2, 12)
    numbers = [middle - step, middle, middle + step, middle]
    chance.shuffle(numbers)
    text = f"What is the average of {', '.join(map(str, numbers[:-1]))} and {numbers[-1]}?"
    return text, middle, [sum(numbers), middle + step, middle - step, 2 * middle]


_KINDS: tuple[Kind, ...] = (
    _sum, _difference, _product, _quotient, _percentage, _growth, _interest, _price, _average,
)  # fmt: skip


def _task(kind: str, title: str, rows: list[dict[str, object]], source: str, *, max_questions: int | None) -> Task:
    chosen = [(index + 1, rows[index]) for index in evenly_chosen(len(rows), max_chosen=max_questions)]
    return Task(
        name=f"{NAME}_{kind}",
        title=title,
        metric="accuracy",
        questions=tuple(_question(f"{source}#{number}", row) for number, row in chosen),
        source=f"{source}, made for this project",
        of_total=len(rows),
    )


def _question(row_id: str, row: dict[str, object]) -> Question:
    text, options = str(row["text"]), row["options"]
    assert isinstance(options, list)
    return Question(
        row_id=row_id,
        messages=(Message(role="system", content=_SYSTEM), Message(role="user", content=text)),
        text=text,
        target=str(row["target"]),
        options=tuple(map(str, options)),
    )
