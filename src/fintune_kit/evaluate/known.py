"""The finance benchmarks that have a name: prompt, options, size, licence, and where the rows come from.

A file is always enough (`fpb=my/fpb.jsonl`, or a file called `fpb.jsonl`); a hub source is used where none is given.
Prompts are Sujet's own words, so that base and adapter are asked as in training; a set that is asked otherwise
elsewhere has other numbers there (see `published`).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fintune_kit.errors import UserError
from fintune_kit.evaluate.tasks import Metric

Row = Mapping[str, Any]
SENTIMENT = (
    "You are a financial sentiment analysis expert. Your task is to analyze the sentiment expressed in the given "
    "financial text.Only reply with {}."
)
TOPICS = (
    "Analyst Update", "Fed | Central Banks", "Company | Product News", "Treasuries | Corporate Debt", "Dividend",
    "Earnings", "Energy | Oil", "Financials", "Currencies", "General News | Opinion", "Gold | Metals | Materials",
    "IPO", "Legal | Regulation", "M&A | Investments", "Macro", "Markets", "Politics", "Personnel Change",
    "Stock Commentary", "Stock Movement",
)  # fmt: skip
_MILD = {"mildly positive": "neutral", "mildly negative": "neutral", "neutral": "neutral"}
_STRONG = {f"{how} {side}": side for how in ("strong", "moderately") for side in ("positive", "negative")}


@dataclass(frozen=True, kw_only=True)
class Hub:
    """A dataset on the hub, and how one of its rows becomes `text`, `target` and perhaps `options`."""

    name: str
    split: str
    convert: Callable[[Row], dict[str, Any]]
    config: str | None = None
    select: Callable[[Any], Any] | None = None
    """From all splits to the rows, where the benchmark cuts its own."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """One benchmark."""

    title: str
    metric: Metric
    rows: int
    """Of the whole split, by its definition; with another number, published figures are not shown."""
    split: str
    licence: str
    system: str | None
    user: str
    """Template with `{text}`."""
    options: tuple[str, ...] = ()
    hub: Hub | None = None
    max_new_tokens: int = 32


def _fiqa_rows(splits: Any) -> Any:
    """FinGPT's test set: 0.226 of all rows, with seed 42."""
    import datasets

    every = datasets.concatenate_datasets([splits["train"], splits["validation"], splits["test"]])
    return every.train_test_split(0.226, seed=42)["test"]


def _fiqa(row: Row) -> dict[str, Any]:
    score = float(row["sentiment_score"])
    return {"text": row["sentence"], "target": "negative" if score < -0.1 else "neutral" if score < 0.1 else "positive"}


def _labels(names: Iterable[str], text: str = "text", label: str = "label") -> Callable[[Row], dict[str, Any]]:
    ordered = tuple(names)
    return lambda row: {"text": row[text], "target": ordered[int(row[label])]}


def _instructed(row: Row) -> dict[str, Any]:
    return {"text": f"{row['instruction']}\n{row['input']}", "target": row["output"]}


def _query(row: Row) -> dict[str, Any]:
    return {"text": row["query"], "target": str(row["answer"])}


_POSITIVE = ("positive", "neutral", "negative")
_BULLISH = ("bearish", "neutral", "bullish")

KNOWN: dict[str, Known] = {
    "fpb": Known(
        title="Financial PhraseBank",
        metric="accuracy",
        rows=1212,
        split="sentences_50agree, 25 % test with seed 42 (FinGPT)",
        licence="CC BY-NC-SA 3.0",
        system=SENTIMENT.format("positive, neutral, or negative"),
        user="Financial text:{text}",
        options=_POSITIVE,
    ),
    "fiqa_sa": Known(
        title="FiQA sentiment",
        metric="accuracy",
        rows=235,
        split="0.226 of all rows with seed 42, scores cut at -0.1 and 0.1 (FinGPT)",
        licence="not stated by its authors",
        system=SENTIMENT.format("positive, neutral, or negative"),
        user="Financial text:{text}",
        options=_POSITIVE,
        hub=Hub(name="pauri32/fiqa-2018", split="test", convert=_fiqa, select=_fiqa_rows),
    ),
    "tfns": Known(
        title="Twitter financial news sentiment",
        metric="accuracy",
        rows=2388,
        split="validation",
        licence="MIT",
        system=SENTIMENT.format("bearish, neutral, or bullish"),
        user="Financial text:{text}",
        options=_BULLISH,
        hub=Hub(
            name="zeroshot/twitter-financial-news-sentiment",
            split="validation",
            convert=_labels(("bearish", "bullish", "neutral")),
        ),
    ),
    "tfns_topic": Known(
        title="Twitter financial news topic",
        metric="accuracy",
        rows=4117,
        split="validation",
        licence="MIT",
        system="You are a financial topic classification expert. Your task is to assign the financial text to one of "
        f"these categories: {', '.join(TOPICS)}.",
        user="Financial text:{text}",
        options=TOPICS,
        hub=Hub(name="zeroshot/twitter-financial-news-topic", split="validation", convert=_labels(TOPICS)),
    ),
    "nwgi": Known(
        title="News with GPT instructions",
        metric="accuracy",
        rows=4047,
        split="test, seven classes folded to three, mild ones to neutral (FinGPT)",
        licence="not stated by its authors",
        system=SENTIMENT.format("positive, neutral, or negative"),
        user="Financial text:{text}",
        options=_POSITIVE,
        hub=Hub(
            name="oliverwang15/news_with_gpt_instructions",
            split="test",
            convert=lambda row: {"text": row["news"], "target": (_MILD | _STRONG)[row["label"]]},
        ),
    ),
    "headlines": Known(
        title="Gold headlines, yes or no",
        metric="accuracy",
        rows=20547,
        split="test",
        licence="not stated by its authors",
        system="You are a financial expert. Your task is to answer the question about the given headline. Only reply "
        "with Yes or No.",
        user="{text}",
        options=("Yes", "No"),
        hub=Hub(name="FinGPT/fingpt-headline-cls", split="test", convert=_instructed),
    ),
    "ner_cls": Known(
        title="Kind of a named entity",
        metric="accuracy",
        rows=3502,
        split="test",
        licence="not stated by its authors",
        system="You are a financial expert. Your task is to say what kind of entity is asked for. Only reply with "
        "person, organization or location.",
        user="{text}",
        options=("person", "organization", "location"),
        hub=Hub(name="FinGPT/fingpt-ner-cls", split="test", convert=_instructed),
    ),
    "finqa": Known(
        title="FinQA, numbers from reports",
        metric="numeric",
        rows=1147,
        split="test",
        licence="MIT",
        system="You are a financial analyst. Work out the number that is asked for. Only reply with the number.",
        user="{text}",
        hub=Hub(name="TheFinAI/flare-finqa", split="test", convert=_query),
    ),
    "tatqa": Known(
        title="TAT-QA, tables and text",
        metric="numeric",
        rows=1663,
        split="test",
        licence="CC BY 4.0",
        system="You are a financial analyst. Answer from the table and the text. Only reply with the answer.",
        user="{text}",
        hub=Hub(name="TheFinAI/flare-tatqa", split="test", convert=_query),
    ),
}
ALIASES = {"fiqa_sa_fingpt": "fiqa_sa", "fiqa": "fiqa_sa"}


def hub_rows(name: str, known: Known) -> list[dict[str, Any]]:
    """The rows of a benchmark's hub source, as `text`, `target`.

    Raises:
        UserError: it has none, or it cannot be loaded.
    """
    if known.hub is None:
        raise UserError(
            f"task {name!r} has no hub source that loads without running its code; expected a file with the columns "
            f"text and target ({known.split}): name it with --task {name}=FILE.jsonl"
        )
    import datasets

    try:
        splits = datasets.load_dataset(known.hub.name, known.hub.config)
        rows = known.hub.select(splits) if known.hub.select else splits[known.hub.split]
        return [known.hub.convert(row) for row in rows]
    except Exception as error:  # the hub client raises a dozen unrelated classes; each means the same to the user
        first = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise UserError(
            f"task {name!r} could not be loaded from the hub dataset {known.hub.name!r} ({first}); expected a "
            f"connection to huggingface.co: name a file of text and target with --task {name}=FILE.jsonl"
        ) from error
