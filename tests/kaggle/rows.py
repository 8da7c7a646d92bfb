"""Rows that a tiny model learns from in a minute, of our own writing: news of made-up firms, good or bad."""

import csv
from collections.abc import Iterator
from pathlib import Path

SYSTEM = "You read news about companies. Say whether it is good or bad for shareholders: positive or negative."
FIRMS = (
    "Aldova Bank",
    "Brenk Steel",
    "Cordia Foods",
    "Delmar Shipping",
    "Estrum Energy",
    "Fjordline",
    "Galvin Chemicals",
    "Harbour Insurance",
)
NEWS = {
    "positive": (
        "profit rose to a record and the dividend was raised",
        "orders grew strongly and the margin improved",
        "revenue beat forecasts and debt was repaid",
        "sales climbed and the outlook was lifted",
    ),
    "negative": (
        "loss widened and the dividend was cancelled",
        "orders collapsed and the margin shrank",
        "revenue missed forecasts and debt was downgraded",
        "sales fell and the outlook was withdrawn",
    ),
}
WHEN = ("in the spring quarter", "over the past year", "in its core market in Asia", "after the merger in Lisbon")
COLUMNS = ("inputs", "answer", "system_prompt", "user_prompt", "task_type", "dataset", "index_level", "conversation_id")


def easy_rows() -> Iterator[dict[str, str]]:
    """64 rows in Sujet's columns, as many good as bad."""
    for firm_number, firm in enumerate(FIRMS):
        for number in range(8):
            answer = ("positive", "negative")[(firm_number + number) % 2]
            news = NEWS[answer][(firm_number + number // 2) % 4]
            when = WHEN[(3 * firm_number + number) % 4]
            text = f"{firm}: {news} {when}, {17 + 7 * firm_number + 13 * number} million euros."
            row = dict.fromkeys(COLUMNS, "") | {"answer": answer, "system_prompt": SYSTEM, "user_prompt": text}
            yield row | {"task_type": "sentiment_analysis", "dataset": "made-up-news"}


def write_easy_rows(path: Path) -> None:
    """Writes them as CSV."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=COLUMNS)
        writer.writeheader()
        writer.writerows(easy_rows())
