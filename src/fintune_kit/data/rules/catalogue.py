"""All rules of the stage in their order, with what each refuses. A rule sees only the rows that earlier ones kept."""

from collections import Counter
from collections.abc import Iterable

RULES = {
    "unreadable": "a line or row that cannot be read",
    "unmapped": "columns that no layout fits",
    "not_text": "a cell that holds no text",
    "roles": "turns that do not alternate, or no answer at the end",
    "missing_or_empty": "no prompt or no answer",
    "answer_equals_prompt": "an answer that repeats the question",
    "cut_off": "an answer that stops in the middle of a sentence",
    "refusal": "an assistant's refusal instead of an answer",
    "over_length": "more tokens than fit; never cut",
    "exact_duplicate": "the same messages as an earlier row",
    "near_duplicate": "what an earlier row says, with another URL, case, punctuation, encoding or word",
    "conflicting_answers": "a prompt that other rows answer differently",
    "unsupported_answer": "an answer with figures or names that its context does not hold",
    "label_error": "a label that is probably wrong",
    "not_finance": "an open question that is not about finance",
    "contamination": "a text that is kept for evaluation",
    "not_selected": "passes, and others were chosen",
}


def refused_by_rule(rules: Iterable[str]) -> dict[str, int]:
    """Counts of each rule in the order of the rules, with a zero for those that refused nothing."""
    counts = Counter(rules)
    assert set(counts) <= set(RULES), set(counts) - set(RULES)
    return {rule: counts[rule] for rule in RULES}
