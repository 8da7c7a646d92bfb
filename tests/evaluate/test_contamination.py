from fintune_kit.evaluate.contamination import TrainingText, contaminated

LONG = "Aspocomp is aggressively pursuing its growth strategy by focusing on demanding printed circuit boards"


def training(*contents: str) -> TrainingText:
    return TrainingText.of([["some question", content] for content in contents])


def test_a_text_inside_a_prompt_is_found_whatever_its_link_case_and_mojibake() -> None:
    seen = training(f"Financial text: {LONG.upper()} +ñ https://t.co/abc \nThe sentiment?")
    linked = LONG.replace(" its ", " https://t.co/xyz9 its https://example.org/a/b ")
    assert linked != LONG
    assert contaminated([LONG, linked], seen) == [True, True]


def test_a_text_of_other_words_is_clean() -> None:
    other = "Aspocomp sold its growth unit and is now focusing on boards that others print for it elsewhere"
    assert contaminated([other], training(LONG)) == [False]


def test_most_of_a_text_is_enough_and_half_of_it_is_not() -> None:
    words = LONG.split()
    nearly, half = " ".join(words[:-1]), " ".join(words[: len(words) // 2 + 2])
    assert contaminated([LONG], training(nearly)) == [True]
    assert contaminated([LONG], training(half)) == [False]


def test_a_short_text_must_stand_there_as_a_whole() -> None:
    seen = training("Report: profit fell sharply. More follows.")
    assert contaminated(["Profit fell sharply", "Profit rose sharply", "Profit fell"], seen) == [True, False, False]


def test_a_run_does_not_reach_over_two_conversations() -> None:
    words = LONG.split()
    apart = TrainingText.of([[" ".join(words[:7])], [" ".join(words[7:])]])
    together = TrainingText.of([[" ".join(words[:7]), " ".join(words[7:])]])
    assert contaminated([LONG], apart) == [False]
    assert contaminated([LONG], together) == [True]


def test_nothing_is_contaminated_by_nothing() -> None:
    assert contaminated([LONG, "a b c"], TrainingText.of([])) == [False, False]
