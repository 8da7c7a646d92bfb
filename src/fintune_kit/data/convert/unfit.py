"""The finding that one row cannot become a conversation. It is caught by the stage and written beside the row."""


class UnfitRow(ValueError):  # noqa: N818 - a finding that is recorded, not a programming error
    """The rule that a row breaks, and what was found in it."""

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(detail)
        self.rule = rule
        self.detail = detail
