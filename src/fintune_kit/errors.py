"""What a user can get wrong. The command line turns these into one sentence and exit code 2; all else is our bug."""


class UserError(ValueError):
    """A mistake that the user can mend. The message says what was found, what was expected and what to do."""


class MissingInputError(UserError, FileNotFoundError):
    """A stage's input is not there, or is unfinished. The message names the notebook or command that writes it."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or the name of its type if the message is empty."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
