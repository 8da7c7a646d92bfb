"""The mistakes that a user can make. The command line says each in one sentence, with exit code 2. Any other error is a
bug of ours."""


class UserError(ValueError):
    """A mistake that the user can mend. The message says what was found, what was expected and what to do."""


class MissingInputError(UserError, FileNotFoundError):
    """A stage's input is not there, or is unfinished. The message names the notebook or command that writes it."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or the name of its type if the message is empty."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
