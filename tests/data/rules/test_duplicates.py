"""One statement said twice is found; two statements that look alike are not taken for one."""

from collections.abc import Sequence

import pytest

from fintune_kit.conversations import Conversation
from fintune_kit.data.rules.duplicates import conflicting_answers, exact_duplicate, near_duplicate
from fintune_kit.data.rules.language import Languages
from fintune_kit.data.rules.prompts import compare_prompts
from tests.data.rows import all_of, conversation, conversations

SENTENCE = (
    "The paper maker said on Tuesday that its operating profit rose to EUR 5.1 mn in the quarter after a strong spring"
)


def found_among(rows: list[Conversation], kept: Sequence[int] | None = None) -> dict[int, str]:
    kept = all_of(rows) if kept is None else kept
    return near_duplicate(rows, kept, compare_prompts(rows, kept), Languages(rows, ["rows"] * len(rows)))


def duplicates(*pairs: tuple[str, str], **options: str) -> dict[int, str]:
    return found_among(conversations(*pairs, **options))


@pytest.mark.parametrize(
    "copy",
    [
        SENTENCE + " https://t.co/abc",
        SENTENCE.upper(),
        SENTENCE.replace(" ", ", ") + "!",
        SENTENCE.replace("spring", "spring…").replace("that", "that â€œ"),
        SENTENCE.replace("quarter", "period"),
        SENTENCE.replace("maker", "producer").replace("strong", "good"),
        SENTENCE.replace("strong ", ""),
    ],
    ids=["url", "case", "punctuation", "encoding", "one word", "two words", "a word less"],
)
def test_the_same_statement_is_found(copy: str):
    found = duplicates((SENTENCE, "positive"), (copy, "positive"))
    assert list(found) == [1]
    assert "rows.csv#1" in found[1]


@pytest.mark.parametrize(
    ("word", "other"),
    [("5.1", "6.2"), ("rose", "fell"), ("profit", "loss"), ("Tuesday", "Monday"), ("EUR 5.1 mn", "EUR 5.1 bn"),
     ("rose", "did not rise"), ("The paper maker", "Korpivaara")],
)  # fmt: skip
def test_another_figure_name_or_opposite_is_another_statement(word: str, other: str):
    named = SENTENCE.replace("The paper maker", "Ludlow") if other == "Korpivaara" else SENTENCE
    changed = SENTENCE.replace(word, other)
    assert duplicates((named, "positive"), (changed, "positive")) == {}


def test_other_answers_and_other_tasks_are_kept():
    assert duplicates((SENTENCE, "positive"), (SENTENCE + "!", "neutral")) == {}
    one = conversation(SENTENCE, "positive", row=1, system="Judge the mood.")
    other = conversation(SENTENCE + "!", "positive", row=2, system="Name the topic.")
    assert found_among([one, other]) == {}


def test_two_questions_on_one_report_are_two():
    report = "The " + " ".join(f"item{number} was {number}.5 million" for number in range(40))
    sales, plant = f"{report}\nwhich year had the highest sales?", f"{report}\nwhich date saw a new plant?"
    assert duplicates((sales, "2019"), (plant, "2019")) == {}
    assert list(duplicates((sales, "2019"), (sales.replace("20.5 million", "20.5 million or so"), "2019"))) == [1]


def test_of_many_copies_the_first_stays():
    copies = [(f"{SENTENCE} https://t.co/{number}", "positive") for number in range(30)]
    assert sorted(duplicates(*copies)) == list(range(1, 30))


def test_short_texts_are_compared_as_a_whole_only():
    assert duplicates(("What is a call option?", "A right."), ("What is a swap option?", "A right.")) == {}


def test_choices_of_a_common_wording_are_not_noise():
    headlines = [" ".join(f"word{number}{letter}" for letter in "abcdefghij") for number in range(40)]
    both = [f"{headline}\nDoes it talk about {topic}?" for headline in headlines for topic in ("mining", "jewellery")]
    assert duplicates(*[(prompt, "No") for prompt in both]) == {}
    noise = [f"{headlines[0]}\nDoes it talk about {topic}?" for topic in ("mining", "minnig")]
    assert list(duplicates(*[(prompt, "No") for prompt in (*both[2:], *noise)])) == [79]


def test_a_slip_in_a_common_wording_is_no_choice_even_where_other_texts_use_the_same_words():
    headlines = [" ".join(f"word{number}{letter}" for letter in "abcdefghij") for number in range(40)]
    asked = [(f"Read this headline: {headline}", "No") for headline in headlines]
    used = [(f"{word} operations this year and the next", "No") for word in ("Mining", "Shipping", "Banking")]
    slip = (f"operations this headline: {headlines[7]}", "No")
    assert list(duplicates(*asked, *used, slip)) == [43]


def test_an_answer_that_takes_up_the_change_makes_another_question():
    pairs = [
        ("Explain briefly in one sentence what this term of the report means: lease liability, secured portion",
         "The secured portion of what is owed under the leases of the company at the end of the year."),
        ("Explain briefly in one sentence what this term of the report means: lease liability, disputed portion",
         "The disputed portion of what is owed under the leases of the company at the end of the year."),
    ]  # fmt: skip
    assert duplicates(*pairs) == {}


def test_labels_that_contradict_each_other_are_refused_on_both_sides():
    rows = conversations(
        (SENTENCE, "positive"), (SENTENCE + " https://t.co/x", "Neutral"), ("Another text entirely.", "neutral")
    )
    assert conflicting_answers(rows, all_of(rows), compare_prompts(rows, all_of(rows))) == {
        0: "answers 'positive' where rows.csv#2 answers 'Neutral'",
        1: "answers 'Neutral' where rows.csv#1 answers 'positive'",
    }


def test_two_good_wordings_of_a_long_answer_do_not_contradict():
    rows = conversations(
        ("What is an ETF?", "A fund that is traded on an exchange just like a share."),
        ("What is an ETF?", "It is a basket of securities which you can buy and sell during the day."),
    )
    assert conflicting_answers(rows, all_of(rows), compare_prompts(rows, all_of(rows))) == {}


def test_two_short_sentences_without_a_figure_are_two_wordings():
    question = "Say it with another word: the car sped quickly."
    for one, other, refused in (
        ("The car accelerated rapidly.", "The car raced rapidly.", []),
        ("It rose by 5 per cent.", "It rose by 6 per cent.", [0, 1]),
        ("accelerated", "raced", [0, 1]),
    ):
        rows = conversations((question, one), (question, other))
        found = conflicting_answers(rows, all_of(rows), compare_prompts(rows, all_of(rows)))
        assert list(found) == refused, one


def test_groups_join_conversations_and_similar_prompts():
    rows = [
        conversation(SENTENCE, "positive", row=1),
        conversation(SENTENCE.replace("5.1", "6.2"), "positive", row=2),
        conversation("How do I open an account at a bank?", "Bring a passport.", row=3, group="c1"),
        conversation("What is a swap between two lenders?", "An exchange.", row=4, group="c1"),
        conversation("Describe the yield curve in plain words.", "Rates by maturity.", row=5),
    ]
    groups = compare_prompts(rows, all_of(rows)).groups(rows, all_of(rows))
    assert groups[0] == groups[1]
    assert groups[2] == groups[3]
    assert len(set(groups)) == 3


def test_two_unlike_words_that_other_texts_use_just_so_are_no_slip():
    uses = [(f"Analyst {n} thinks that the coastal plant opens in spring {n}", "neutral") for n in range(3)]
    uses += [(f"Analyst {n} thinks that the inland plant opens in spring {n}", "neutral") for n in range(3)]
    pair = [
        f"a report by the trade body says the {w} plant opens well before the others" for w in ("coastal", "inland")
    ]
    assert duplicates(*uses, *[(text, "neutral") for text in pair]) == {}
    assert list(duplicates(*[(text, "neutral") for text in pair])) == [1]


def test_exact_duplicates_have_the_same_messages():
    rows = [conversation("a", "b", row=row) for row in (1, 2)] + [conversation("a", "b", row=3, system="s")]
    assert exact_duplicate(rows, range(3)) == {1: "the same messages as rows.csv#1"}


def test_a_row_that_an_earlier_rule_refused_is_not_the_original_of_another():
    rows = conversations((SENTENCE, "positive"), (SENTENCE + "!", "positive"), (SENTENCE.upper(), "positive"))
    assert list(found_among(rows)) == [1, 2]
    assert found_among(rows, [1, 2]) == {2: "the same words as rows.csv#2"}
    assert list(exact_duplicate([rows[0], rows[0], rows[0]], [1, 2])) == [2]


GERMAN = "Die Aktie des Papierherstellers steigt nach dem Bericht über das starke Quartal im Frühjahr um drei Prozent"


def test_outside_english_only_equal_words_say_the_same():
    assert duplicates((GERMAN, "neutral"), (GERMAN.replace("steigt", "sinkt"), "neutral")) == {}
    assert duplicates((GERMAN, "neutral"), (GERMAN.replace("starke", "gute"), "neutral")) == {}
    assert list(duplicates((GERMAN, "neutral"), (GERMAN.upper() + " https://t.co/x", "neutral"))) == [1]


def test_an_answer_that_the_other_repeats_in_a_sentence_does_not_contradict_it():
    question = "What was the revenue of the maker in 2018?"
    rows = conversations((question, "12.1"), (question, "It was 12.1 million."), (question + "!", "14.0"))
    found = conflicting_answers(rows, all_of(rows), compare_prompts(rows, all_of(rows)))
    assert found[0] == "answers '12.1' where rows.csv#3 answers '14.0'"
    assert conflicting_answers(rows[:2], range(2), compare_prompts(rows[:2], range(2))) == {}
