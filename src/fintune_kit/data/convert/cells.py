"""One cell of a row, read as text, as a list or as a label; and the spellings of "nothing".

None, NaN                                               absent: as if the row had no such column
"No input", "<noinput>", "[No Input]."                  empty
12, true                                                "12", "true"
"[{'role': 'user', ...}]", '[{"role": "user", ...}]'    a list, as Python or as JSON writes it
{"text": ["12 %", "12"]} in a column `answers`          "12 %"
"""

import ast
import io
import json
import math
import re
import tokenize
from typing import Any


class RowError(ValueError):
    """One row cannot become a conversation: the rule that it breaks, and what was found in it."""

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(detail)
        self.rule = rule
        self.detail = detail


_MARKS = re.compile(r"[^\w/]+|_")
_NO_INPUT = re.compile(
    r"(?:no ?(?:further |additional |specific )?(?:in ?put|out ?put|context)s?|nan)"
    r"(?: (?:is |was |were )?(?:provided|required|needed|given|necessary|available|specified))?"
)
_NO_CONTEXT = frozenset({"none", "null", "n/a", "na", "nil", "not applicable", "empty", "blank", ""})
_UNESCAPED = frozenset({"nan", "NaN", "NULL"})


def is_absent(value: Any) -> bool:
    """Whether a cell holds nothing: null, or the NaN that tables write for it."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def says_nothing(text: str, *, is_context: bool = False) -> bool:
    """Whether a text only says that there is none, in any spelling: `No input`, `<nooutput>`, `[No Input Provided]`.

    Args:
        is_context: `None`, `N/A` and a bare dash count too. In a question or an answer they may be meant.
    """
    if len(text) > 40:
        return False
    plain = " ".join(_MARKS.sub(" ", text.lower()).split())
    if is_context and plain in _NO_CONTEXT:
        return True
    return text.strip() in _UNESCAPED or _NO_INPUT.fullmatch(plain) is not None


def text_of(value: Any, column: str | None, *, required: bool, is_context: bool = False) -> str:
    """A cell as text. Numbers and truth values are written out; an absent cell is '' where it is optional.

    Raises:
        RowError: the cell holds no text, or is missing and required.
    """
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if is_absent(value):
        value = ""
    if isinstance(value, bool):
        value = "true" if value else "false"
    elif isinstance(value, int | float):
        value = _written(value)
    if not isinstance(value, str):
        raise RowError("not_text", f"column {column!r} holds a {type(value).__name__}, expected text")
    if says_nothing(value, is_context=is_context):
        value = ""
    if required and not value.strip():
        raise RowError("missing_or_empty", f"column {column!r} is missing or empty")
    return value


def _written(value: float) -> str:
    try:
        return str(value)
    except ValueError as error:  # Python refuses to write out integers of thousands of digits
        raise RowError("not_text", f"a number that cannot be written out ({error})") from error


def first_answer(answers: Any) -> Any:
    """The first of several spellings of an answer, `["12 %", "12"]` or, in SQuAD, `{"text": ["12 %"]}`.

    An empty list gives None. A cell of another form is returned unchanged.
    """
    if isinstance(answers, dict) and "text" in answers:
        answers = answers["text"]
    if hasattr(answers, "tolist"):
        answers = answers.tolist()
    if not isinstance(answers, list):
        return answers
    return next((answer for answer in answers if not is_absent(answer)), None)


def label_of(value: Any, column: str | None) -> str:
    """A label as text.

    Raises:
        RowError: the label is missing, or a number without a name.
    """
    label = text_of(value, column, required=True)
    try:
        is_number = float(label).is_integer()
    except ValueError:
        is_number = False
    if is_number:
        detail = f"label {label} is a number without a name; name the column of label names with --map label=COLUMN"
        raise RowError("not_text", detail)
    return label


def list_of(value: Any) -> Any:
    """A cell that holds a list, or a text that JSON or Python would read as one; anything else unchanged."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if not isinstance(value, str) or not value.strip().startswith("["):
        return value
    for read in (json.loads, ast.literal_eval, _numpy_list):
        try:
            found = read(value)
        except (ValueError, SyntaxError, RecursionError, MemoryError, tokenize.TokenError):
            continue
        if isinstance(found, list):
            return found
    return value


def _numpy_list(text: str) -> Any:
    """A list of objects without commas between them, as NumPy prints it and tables keep it."""
    tokens = list(tokenize.generate_tokens(io.StringIO(text.strip()).readline))
    kept = [token for token in tokens if token.type not in (tokenize.NEWLINE, tokenize.NL, tokenize.COMMENT)]
    pieces = []
    for token, following in zip(kept, [*kept[1:], None], strict=True):
        pieces.append(token.string)
        if token.string == "}" and following is not None and following.string == "{":
            pieces.append(",")
    return ast.literal_eval(" ".join(pieces).strip())
