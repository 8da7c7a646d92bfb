"""Each rule refuses what it says, and lets the like of it pass."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fintune_kit.conversations import Conversation
from fintune_kit.data.rules import quality
from fintune_kit.data.rules.catalogue import RULES, refused_by_rule
from tests.data.rows import all_of, conversations

WHOLE = [(f"Question {n}?", f"The fund number {n} is a pool of money that many people share.") for n in range(20)]


def broken(rule: Callable[[Conversation], str | None], *pairs: tuple[str, str]) -> list[int]:
    """The indices of the rows that break a rule."""
    return [index for index, row in enumerate(conversations(*pairs)) if rule(row)]


def cut_off(*pairs: tuple[str, str]) -> dict[int, str]:
    rows = conversations(*pairs)
    return quality.cut_off(rows, ["rows"] * len(rows), all_of(rows))


def test_an_answer_needs_a_letter_or_a_figure():
    assert broken(quality.missing_or_empty, ("a", "-"), ("b", "..."), ("c", "5"), ("d", "是")) == [0, 1]


@pytest.mark.parametrize("text", ["No input", "<noinput>", "[No Output].", "`<nooutput>`", "no input required"])
def test_a_side_that_only_says_that_there_is_none_is_empty(text: str):
    assert broken(quality.missing_or_empty, ("What?", text), (text, "A fund."), ("Any input?", "None")) == [0, 1]


def test_an_answer_that_repeats_its_question():
    pairs = (
        ("What is an ETF?", "what is an ETF"),
        ("Question: What is an ETF?", "What is an ETF?"),
        ("What is an ETF?", "An ETF is a fund."),
        ("Which is right?\nGold rose.", "Gold rose."),
    )
    assert broken(quality.answer_equals_prompt, *pairs) == [0, 1]


@pytest.mark.parametrize(
    "ending",
    [
        "It is trading a security on important information that is not public, in breach of",
        "A fund pools the money of many people who pay a small fee each year, and a manager decides which",
        "An annuity is a contract in which you pay an insurer a sum, and it pays you a regular",
        "There are three common options for you:",
        "A stock is reasonably safe if it meets the following criteria:",
    ],
)
def test_an_answer_that_stops_before_its_end(ending: str):
    assert cut_off(*WHOLE, ("What?", ending)) == {20: f"ends with {ending[-30:]!r}"}


@pytest.mark.parametrize(("words", "is_cut_off"), [(11, False), (12, True), (13, True)])
def test_only_a_long_answer_is_cut_off_at_a_word(words: int, is_cut_off: bool):
    assert bool(cut_off(*WHOLE, ("What?", "pay " * (words - 1) + "the"))) == is_cut_off


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What?", "100% on the first 3% of pay and 50% on the next 2% of pay each pay period"),
        ("What?", "The sooner you get the house in your name the better, since the price may rise next year"),
        ("What?", "The decrease was driven by amortization of intangible assets associated with the acquisition"),
        ("What?", "Name:\nE-mail:\nYour country of residence:"),
        ("What?", "1. Find money for the years to come\n2. Know the law of the land\n3. Building a brand"),
        ("What?", "- Listen to them when they have time\n- Help with a task that they struggle with"),
        ("What?", "neutral"),
        ("What?", "Answer:"),
        ("Read: profit rose in the year because of lower costs and of the sale of a plant to a firm of", ""),
    ],
)
def test_what_ends_without_a_full_stop_for_a_reason(question: str, answer: str):
    answer = answer or question.removeprefix("Read: ")
    assert cut_off(*WHOLE, (question, answer)) == {}


def test_where_no_answer_ends_as_a_sentence_an_article_before_the_last_word_is_not_suspect():
    rows = [(question, answer.rstrip(".")) for question, answer in WHOLE]
    assert (
        cut_off(*rows, ("What?", "An annuity is a contract in which an insurer pays you for many years a pension"))
        == {}
    )


@pytest.mark.parametrize(
    ("answer", "is_refusal"),
    [
        ("As an AI language model, I cannot predict prices.", True),
        ("I'm sorry, but I can’t help with that.", True),
        ("I cannot provide financial advice.", True),
        ("I am unable to access your records.", True),
        ("As an AI assistant, I do not have access to prices.", True),
        ("One of the challenges I could face as an AI, I think, is a slow network.", False),
        ("As an AI assistant, I am designed to work with others.", False),
        ("I'm sorry, but I'm unable to come into work today.", False),
        ("You cannot deduct the rent.", False),
        ("I am sorry for your loss. A will is settled by a court.", False),
        ("An AI fund buys shares of AI firms as an asset.", False),
    ],
)
def test_boilerplate_of_an_assistant(answer: str, is_refusal: bool):
    assert bool(broken(quality.refusal, ("q", answer))) == is_refusal


class ThreeTokensAWord:
    """Stands for an encoder, and remembers what it was asked to measure."""

    def __init__(self) -> None:
        self.measured = 0

    def lengths(self, conversations: list[Any]) -> np.ndarray:
        self.measured += len(conversations)
        return np.array([sum(3 * len(m["content"].split()) for m in messages) for messages in conversations])


def test_length_is_measured_only_where_it_could_be_too_long():
    encoder = ThreeTokensAWord()
    rows = conversations(("word " * 200, "yes"), ("word " * 100, "yes"), ("short", "yes"))
    assert quality.over_length(rows, all_of(rows), encoder=encoder, max_length=512) == {  # type: ignore[arg-type]
        0: "603 tokens, expected at most 512"
    }
    assert encoder.measured == 2


def test_every_rule_is_counted_in_its_order_even_where_it_refuses_nothing():
    counts = refused_by_rule(["refusal", "refusal", "not_selected"])
    assert list(counts) == list(RULES)
    assert counts["refusal"] == 2
    assert sum(counts.values()) == 3
