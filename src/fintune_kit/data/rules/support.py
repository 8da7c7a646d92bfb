"""Unsupported answers: an answer that should come from its context, and has figures or names that are not in it.

    context  ... Google Cloud revenue was $33.1 billion ...
    answer   Google Cloud revenue was $26.3 billion in 2022.          26.3 and 2022 are not in the context

Only datasets whose answers come from their contexts are judged: at least nine of ten answers must be supported. Where
answers are computed, as in FinQA, a figure that is not in the context is the point of the question.
"""

import re
from collections import defaultdict
from collections.abc import Sequence

from fintune_kit.conversations import Conversation
from fintune_kit.data.corpus import Findings
from fintune_kit.data.rules.labels import OPEN

MIN_PROMPT_WORDS = 30
"""A shorter prompt holds no context."""
MIN_ROWS = 50
"""Rows of a dataset that tell whether its answers come from their contexts."""
MIN_SUPPORTED_SHARE = 0.9
MIN_NAMES = 2
"""A single name that is missing may be another word for one that is there."""
_FIGURE = re.compile(r"\d+(?:[.,]\d+)*%?")
_NAME = re.compile(r"(?<![.!?:\n] )(?<!^)(?<![\w-])[A-Z][a-z]{2,}(?:[A-Z][a-z]+)?\b")
_ENUMERATION = re.compile(r"(?<!\S)\(?\d\)\s")
"""`1) records` and `(2) costs`, as a text counts its points."""
_SHORT_YEAR = re.compile(r"\b\d{1,2}/\d{1,2}/(\d\d)\b")
_ABBREVIATION = re.compile(r"\b(?:[A-Z]\.){2,}|\b[A-Z]{2,}s?\b")
_CAPITALS = re.compile(r"[A-Z][a-z]+(?:,? (?:of |and |the |for )*[A-Z][a-z]+)+")
MIN_SCALED_DIGITS = 3
"""With fewer digits, two figures are equal in another scale by chance."""
MAX_TERMS = 12
"""The largest figures of a context, of which sums and differences are taken."""
_ROUND = frozenset({"0", "100", "0%", "100%"})


def unsupported_answer(
    conversations: Sequence[Conversation], origins: Sequence[str], labels: Sequence[str], kept: Sequence[int]
) -> Findings:
    """Open answers with figures or names that are missing in their context.

    Only datasets whose contexts hold these as a rule are judged.
    """
    missing: dict[tuple[str, str], dict[int, list[str]]] = defaultdict(dict)
    for index in kept:
        conversation = conversations[index]
        if labels[index] == OPEN and conversation.prompt.count(" ") >= MIN_PROMPT_WORDS - 1:
            context = f"{conversation.system}\n{conversation.prompt}"
            missing[conversation.task_type, origins[index]][index] = missing_from(context, conversation.answer)
    findings: Findings = {}
    for rows in missing.values():
        broken = {index: words for index, words in rows.items() if words}
        if len(rows) >= MIN_ROWS and len(broken) <= (1 - MIN_SUPPORTED_SHARE) * len(rows):
            findings |= {index: f"the context does not hold {', '.join(words[:5])}" for index, words in broken.items()}
    return dict(sorted(findings.items()))


def missing_from(context: str, answer: str) -> list[str]:
    """The figures, and the names where there are several, that an answer has and its context has not.

    Another spelling of what is there counts as there: `$49.8 billion` for 49,833 (in millions), the year before or
    after, 2021 for 3/5/21, and `Home Equity Lines of Credit` for HELOC. So does a sum or a difference of two figures.
    A percentage may be computed where the context has two figures or more, and so may 0 and 100.
    """
    given = {_plain(figure) for figure in _FIGURE.findall(context)}
    values = {float(figure) for figure in given if figure.count(".") < 2}
    years = {int(f"20{year}") for year in _SHORT_YEAR.findall(context)}
    years |= {int(value) + step for value in values if 1900 <= value <= 2100 for step in (-1, 0, 1)}
    figures = [
        figure
        for figure in _FIGURE.findall(_ENUMERATION.sub("", answer))
        if _plain(figure) not in given
        and figure not in _ROUND
        and not (figure.endswith("%") and len(given) >= 2)
        and not _follows(_plain(figure), values, years)
    ]
    small = context.lower()
    spelled_out = _spelled_out(context, answer)
    names = list(dict.fromkeys(n for n in _NAME.findall(answer) if n.lower() not in small and n not in spelled_out))
    return figures + (names if len(names) >= MIN_NAMES else [])


def _follows(figure: str, values: set[float], years: set[int]) -> bool:
    """Whether a figure is one of the context's in another scale, a sum or difference of two, or a named year."""
    if figure.count(".") > 1:  # 5.339.3 is not a number, but the context may hold it
        return False
    value, digits = float(figure), len(figure.replace(".", "").strip("0"))
    if figure.isdigit() and 1900 <= value <= 2100:
        return int(figure) in years
    if digits >= MIN_SCALED_DIGITS and any(_significand(v, digits) == _significand(value, digits) for v in values):
        return True
    terms = sorted(values)[-MAX_TERMS:]
    terms += [1_000 * term for term in terms if not term.is_integer()]  # 1.48 billion beside 907 million
    computed = {round(one + sign * other, 4) for one in terms for other in terms if one > other for sign in (1, -1)}
    return bool({round(value / scale, 4) for scale in (1, 1_000, 0.001)} & computed)


def _significand(value: float, digits: int) -> str:
    """The first digits of a number, rounded: 49833 and 49.8 both give `4.98e` for three."""
    return f"{value:.{digits - 1}e}".split("e")[0]


def _spelled_out(context: str, answer: str) -> set[str]:
    """The names of the answer whose first letters are an abbreviation of the context: Consumer Protection for CP."""
    short = {found.replace(".", "").rstrip("s") for found in _ABBREVIATION.findall(context)}
    names: set[str] = set()
    for run in _CAPITALS.findall(answer):
        words = run.split()
        for kept in (words, [word for word in words if word[0].isupper()]):
            initials = "".join(word[0].upper() for word in kept)
            for letters in (own for own in short if own in initials):
                start = initials.index(letters)
                names.update(kept[start : start + len(letters)])
    return names


def _plain(figure: str) -> str:
    """A figure without thousands separators, closing zeros and percent sign: `1,250.50%` as `1250.5`."""
    plain = figure.rstrip("%").replace(",", "")
    return plain.rstrip("0").rstrip(".") if "." in plain else plain
