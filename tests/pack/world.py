"""Examples of a few tokens, written by hand, that the tests of this folder share."""

import numpy as np

from fintune_kit.chat.examples import Example, Examples


def example(prompt: list[int], answer: list[int]) -> Example:
    """A prompt and its answer; the answer is supervised."""
    return Example(np.array(prompt + answer, np.int32), np.array([False] * len(prompt) + [True] * len(answer)))


def examples(*pairs: tuple[list[int], list[int]]) -> Examples:
    return Examples.of([example(prompt, answer) for prompt, answer in pairs])


SYSTEM, OTHER_SYSTEM = [1, 2, 3], [4, 5]
REPORT, OTHER_REPORT = [10, 11, 12, 13], [14, 15]
ASK = [7]  # before an answer: shared only by examples that are given the same answer

THREE_LEVELS = (
    (SYSTEM + REPORT + [20, 21] + ASK, [30, 31]),
    (SYSTEM + REPORT + [20, 22] + ASK, [32]),
    (SYSTEM + REPORT + [23] + ASK, [33, 34, 35]),
    (SYSTEM + OTHER_REPORT + [20, 21] + ASK, [36]),
    (SYSTEM + OTHER_REPORT + [20, 21] + ASK, [37, 38]),  # the same prompt, another answer
    ([*OTHER_SYSTEM, 24, *ASK], [39]),
)
"""System, report, question: three levels of branching, identical prompts with different answers, two roots."""


def turns(*pairs: tuple[list[int], list[int]]) -> Example:
    """A conversation of several questions, each with its supervised answer."""
    return Example(
        np.array([token for prompt, answer in pairs for token in prompt + answer], np.int32),
        np.array([s for prompt, answer in pairs for s in [False] * len(prompt) + [True] * len(answer)]),
    )


_FIRST, _SECOND = (SYSTEM + ASK, [30, 31]), ([20, 21, *ASK], [32])
GROWING = Examples.of(
    [
        turns(_FIRST),
        turns(_FIRST),  # a twin
        turns(_FIRST, _SECOND),
        turns(_FIRST, _SECOND, ([22, *ASK], [33, 34])),
        turns(_FIRST, ([20, *ASK], [35])),
        turns((SYSTEM + ASK, [30, 36]), ([22, *ASK], [37])),  # answers the first question another way
    ]
)
"""Examples that repeat the answers of others: a conversation that grows, a twin, a branch, and an answer that parts."""


def as_pairs(arranged: list[tuple[list[int], list[int]]]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    return sorted((tuple(tokens), tuple(labels)) for tokens, labels in arranged)


def expected_pairs(of: Examples) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Tokens and shifted labels of each example, as one that is not packed would have them."""
    found = []
    for number in range(len(of)):
        tokens, supervised = of[number].tokens.tolist(), of[number].supervised.tolist()
        labels = [t if s else -100 for t, s in zip(tokens[1:], supervised[1:], strict=True)] + [-100]
        found.append((tuple(tokens), tuple(labels)))
    return sorted(found)
