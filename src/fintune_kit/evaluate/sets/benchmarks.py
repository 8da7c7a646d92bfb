"""The known finance benchmarks: prompt, options, size, licence, paper, and the source of the rows.

The rows come from a file (`--task fpb=my/fpb.jsonl`, or a file called `fpb.jsonl`), else from the hub. The benchmarks
have two families:

    fpb, fiqa_sa, tfns, ...       FinGPT's splits, with Sujet's prompts, as in training
    flare_fpb, flare_ner, ...     FLARE (FinBen): split, prompt and score as published; rows are read unchanged

Another split or another prompt gives other scores. So published scores are shown only beside the same split
(`published`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fintune_kit.data.read.hub import open_hub
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
_POSITIVE = ("positive", "neutral", "negative")
_BULLISH = ("bearish", "neutral", "bullish")
_TO_POSITIVE = {"bullish": "positive", "bearish": "negative"}
_TO_BULLISH = {"positive": "bullish", "negative": "bearish"}
_MILD = {f"mildly {side}": "neutral" for side in ("positive", "negative")}
_STRONG = {f"{how} {side}": side for how in ("strong", "moderately") for side in ("positive", "negative")}
FLARE_PAPER = "FinBen, arXiv 2402.12659; PIXIU, arXiv 2306.05443"


@dataclass(frozen=True, kw_only=True)
class Hub:
    """A dataset on the hub."""

    name: str
    split: str
    select: Callable[[Mapping[str, Any]], Any] | None = None
    """Makes the rows from all splits, if the benchmark has a test set of its own; None takes `split`."""


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """The published definition of a benchmark."""

    title: str
    metric: Metric
    split: str
    licence: str
    paper: str
    rows: int | None = None
    """Questions in the whole split. None if its authors do not say; then no published scores are shown."""
    system: str | None = None
    user: str = "{text}"
    """Template of the user's message."""
    options: tuple[str, ...] = ()
    numbered: tuple[str, ...] = ()
    """The labels for the numbers 0, 1, 2 in files or on the hub."""
    folds: Mapping[str, str] = field(default_factory=dict)
    """From published labels, in lower case, to the options that they count as."""
    cuts: tuple[float, float] | None = None
    """For targets that are scores: below the first cut is negative, from the second cut on is positive."""
    average_groups: bool = False
    """Whether F1 is averaged over the groups of questions (Headlines)."""
    hub: Hub | None = None
    max_new_tokens: int = 32


def _fiqa_rows(splits: Mapping[str, Any]) -> Any:
    """FinGPT's test set: a share of 0.226 of all rows, with seed 42."""
    import datasets

    every = datasets.concatenate_datasets([splits["train"], splits["validation"], splits["test"]])
    return every.train_test_split(0.226, seed=42)["test"]


def _sentiment(options: tuple[str, ...], **rest: Any) -> Benchmark:
    """A set with Sujet's sentiment prompt."""
    words = "positive, neutral, or negative" if options == _POSITIVE else "bearish, neutral, or bullish"
    folds = {**(_TO_POSITIVE if options == _POSITIVE else _TO_BULLISH), **rest.pop("folds", {})}
    return Benchmark(
        metric="accuracy",
        system=SENTIMENT.format(words),
        user="Financial text:{text}",
        options=options,
        folds=folds,
        **rest,
    )


def _flare(title: str, metric: Metric, hub: str, rows: int | None, paper: str, **rest: Any) -> Benchmark:
    """A set in FLARE's format. Its rows hold their own prompt and options."""
    return Benchmark(
        title=f"{title} (FLARE)",
        metric=metric,
        split="test",
        licence="see the dataset's card on the hub",
        paper=f"{paper}; {FLARE_PAPER}",
        rows=rows,
        hub=Hub(name=f"TheFinAI/{hub}", split="test"),
        **rest,
    )


BENCHMARKS: dict[str, Benchmark] = {
    "fpb": _sentiment(
        _POSITIVE,
        title="Financial PhraseBank",
        rows=1212,
        split="sentences_50agree, 25 % test with seed 42 (FinGPT)",
        licence="CC BY-NC-SA 3.0",
        paper="Malo et al. 2014, arXiv 1307.5336",
        numbered=("negative", "neutral", "positive"),
    ),
    "fiqa_sa": _sentiment(
        _POSITIVE,
        title="FiQA sentiment",
        rows=235,
        split="0.226 of all rows with seed 42, scores cut at -0.1 and 0.1 (FinGPT)",
        licence="not stated by its authors",
        paper="Maia et al. 2018, WWW'18 Open Challenge",
        cuts=(-0.1, 0.1),
        hub=Hub(name="pauri32/fiqa-2018", split="test", select=_fiqa_rows),
    ),
    "tfns": _sentiment(
        _BULLISH,
        title="Twitter financial news sentiment",
        rows=2388,
        split="validation",
        licence="MIT",
        paper="https://huggingface.co/datasets/zeroshot/twitter-financial-news-sentiment",
        numbered=("bearish", "bullish", "neutral"),
        hub=Hub(name="zeroshot/twitter-financial-news-sentiment", split="validation"),
    ),
    "tfns_topic": Benchmark(
        title="Twitter financial news topic",
        metric="accuracy",
        rows=4117,
        split="validation",
        licence="MIT",
        paper="https://huggingface.co/datasets/zeroshot/twitter-financial-news-topic",
        system="You are a financial topic classification expert. Your task is to assign the financial text to one of "
        f"these categories: {', '.join(TOPICS)}.",
        user="Financial text:{text}",
        options=TOPICS,
        numbered=TOPICS,
        hub=Hub(name="zeroshot/twitter-financial-news-topic", split="validation"),
    ),
    "nwgi": _sentiment(
        _POSITIVE,
        title="News with GPT instructions",
        rows=4047,
        split="test, seven classes folded to three, mild ones to neutral (FinGPT)",
        licence="not stated by its authors",
        paper="FinGPT, arXiv 2306.06031",
        folds=_MILD | _STRONG,
        hub=Hub(name="oliverwang15/news_with_gpt_instructions", split="test"),
    ),
    "headlines": Benchmark(
        title="Gold headlines, yes or no",
        metric="accuracy",
        rows=20547,
        split="test",
        licence="not stated by its authors",
        paper="Sinha and Khandait 2021, arXiv 2009.04202",
        system="You are a financial expert. Your task is to answer the question about the given headline. Only reply "
        "with Yes or No.",
        options=("Yes", "No"),
        average_groups=True,
        hub=Hub(name="FinGPT/fingpt-headline-cls", split="test"),
    ),
    "ner_cls": Benchmark(
        title="Kind of a named entity",
        metric="accuracy",
        rows=3502,
        split="test",
        licence="not stated by its authors",
        paper="Salinas Alvarado et al. 2015, ALTA",
        system="You are a financial expert. Your task is to say what kind of entity is asked for. Only reply with "
        "person, organization or location.",
        options=("person", "organization", "location"),
        hub=Hub(name="FinGPT/fingpt-ner-cls", split="test"),
    ),
    "finqa": Benchmark(
        title="FinQA, numbers from reports",
        metric="numeric",
        rows=1147,
        split="test",
        licence="MIT",
        paper="Chen et al. 2021, arXiv 2109.00122",
        system="You are a financial analyst. Work out the number that is asked for. Only reply with the number.",
        hub=Hub(name="TheFinAI/flare-finqa", split="test"),
    ),
    "tatqa": Benchmark(
        title="TAT-QA, tables and text",
        metric="spans",
        split="test",
        licence="CC BY 4.0",
        paper="Zhu et al. 2021, arXiv 2105.07624",
        system="You are a financial analyst. Answer from the table and the text. Only reply with the answer.",
        hub=Hub(name="TheFinAI/flare-tatqa", split="test"),
    ),
    "flare_fpb": _flare(
        "Financial PhraseBank", "accuracy", "flare-fpb", 970, "Malo et al. 2014, arXiv 1307.5336"
    ),
    "flare_fiqasa": _flare("FiQA sentiment", "accuracy", "flare-fiqasa", 235, "Maia et al. 2018"),
    "flare_headlines": _flare(
        "Gold headlines", "accuracy", "flare-headlines", 20547, "arXiv 2009.04202", average_groups=True
    ),
    "flare_fomc": _flare("FOMC, hawkish or dovish", "accuracy", "flare-fomc", 496, "Shah et al. 2023, 2305.07972"),
    "flare_multifin": _flare(
        "MultiFin, English headlines by topic", "accuracy", "flare-multifin-en", 546, "Jørgensen et al. 2023, EACL"
    ),
    "flare_ner": _flare(
        "Named entities", "mentions", "flare-ner", 98, "Salinas Alvarado et al. 2015, ALTA", max_new_tokens=128
    ),
    "flare_finer": _flare(
        "FiNER-ORD, entities word by word", "tokens", "flare-finer-ord", None, "Shah et al. 2023, arXiv 2302.11157",
        max_new_tokens=512,
    ),
    "flare_finqa": _flare("FinQA", "exact_match", "flare-finqa", 1147, "Chen et al. 2021, arXiv 2109.00122"),
    "flare_convfinqa": _flare(
        "ConvFinQA, with the model's own earlier answers", "exact_match", "flare-convfinqa", 1490,
        "Chen et al. 2022, arXiv 2210.03849",
    ),
    "flare_tatqa": _flare("TAT-QA", "exact_match", "flare-tatqa", None, "Zhu et al. 2021, arXiv 2105.07624"),
}  # fmt: skip
ALIASES = {
    "fiqa_sa_fingpt": "fiqa_sa",
    "fiqa": "fiqa_sa",
    "fomc": "flare_fomc",
    "multifin": "flare_multifin",
    "ner": "flare_ner",
    "finer": "flare_finer",
    "finer_ord": "flare_finer",
    "convfinqa": "flare_convfinqa",
}
"""Other names of the same benchmarks."""


def hub_rows(key: str) -> list[dict[str, Any]]:
    """The rows of a benchmark from the hub, with their original columns.

    Raises:
        UserError: the benchmark has no hub dataset, or it cannot be loaded.
    """
    benchmark = BENCHMARKS[key]
    if benchmark.hub is None:
        raise UserError(
            f"task {key!r} has no hub dataset that loads without running code; expected a file with the columns text "
            f"and target ({benchmark.split}): name it with --task {key}=FILE.jsonl"
        )
    try:
        splits = open_hub(benchmark.hub.name)
        rows = benchmark.hub.select(splits) if benchmark.hub.select else splits[benchmark.hub.split]
        return [dict(row) for row in rows]
    except (UserError, KeyError) as error:
        raise UserError(
            f"task {key!r} could not be loaded from the hub dataset {benchmark.hub.name!r} ({error}): name a file of "
            f"text and target with --task {key}=FILE.jsonl"
        ) from error
