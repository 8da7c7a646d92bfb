"""`fintune-kit VERB ...`: runs a verb, and turns mistakes into one sentence and an exit code.

A verb is a typed function in the file of its name. Its parameters are the flags, and its docstring is the help. A file
is imported when its verb is called, so `--help` is fast, and a verb needs only the packages that it uses.

Exit code 0 is success. 2 is a mistake or a fault of the machine that the user can correct; stderr says it in one
sentence. 1 is anything else. `faults` lists the exit codes of signals.
"""

import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError, UnusedCliTokensError

from fintune_kit import __version__
from fintune_kit.cli.faults import (
    STOPPED,
    TERMINATED,
    TerminatedError,
    catching_sigterm,
    describe_fault,
    leave_quietly,
)
from fintune_kit.cli.flags import FLAGS

VERBS = {
    "data": "Turn rows of any dataset into conversations/.",
    "pack": "Pack conversations/ into packed/.",
    "plan": "Estimate the memory, steps and hours of a recipe on a card.",
    "train": "Train on packed/ and write run/ and adapter/.",
    "evaluate": "Score the base and the adapter and write evaluation/.",
    "ask": "Answer a question with the base and with the adapter, side by side.",
    "export": "Merge the adapter into its base, for transformers, llama.cpp and Ollama.",
    "push": "Upload the adapter or an export to the Hub, with the token from HF_TOKEN.",
    "recipe": "Show a recipe with the reason of each value, or check a recipe file.",
    "transactions": "Work with bank statements: generate, import, anonymise, label, conversations, categorise.",
    "kaggle": "Run the notebooks as Kaggle kernels: build, push, status, fetch.",
    "doctor": "Say what this machine can run, and what to do about the rest.",
}
"""The summary of each verb; a test compares it with the verb's own docstring."""

GROUPS = ("recipe", "transactions", "kaggle")
"""Verbs with verbs of their own."""
EXTRAS = {
    "data": "train,bank",
    "pack": "train",
    "train": "train",
    "evaluate": "evaluate,bank",
    "ask": "evaluate,bank",
    "export": "evaluate,bank",
    "push": "evaluate,bank",
    "transactions": "bank",
    "transactions label": "evaluate,bank",
    "transactions categorise": "evaluate,bank",
    "kaggle": "kaggle",
}
"""The extras of the package that a verb needs."""


def build_app() -> App:
    """The command line with all its verbs, whose files are not imported yet."""
    app = App(
        name="fintune-kit",
        help="Fine-tune a Qwen chat model for finance.",
        version=__version__,
        help_format="plaintext",  # the parser for markdown would cost time at each `--help`
        default_parameter=FLAGS,
        suppress_keyboard_interrupt=False,
    )
    for verb, summary in VERBS.items():
        app.command(f"fintune_kit.cli.{verb}:{verb}", name=verb, help=summary)
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb and returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given in ([group] for group in GROUPS):
        return _refuse(f"no verb was given; expected one: see `{' '.join(('fintune-kit', *given, '--help'))}`")
    try:
        with catching_sigterm():
            build_app()(given, exit_on_error=False, print_error=False, result_action="return_value")
            sys.stdout.flush()
    except KeyboardInterrupt as stop:
        return _stop(by_a_signal=isinstance(stop, TerminatedError))
    except BrokenPipeError:
        return leave_quietly()
    except Exception as error:
        sentence = _sentence_about(error, given)
        if sentence is None:
            raise
        return _refuse(sentence)
    return 0


def _sentence_about(error: Exception, given: Sequence[str]) -> str | None:
    """A sentence about a mistake, a missing package or a fault of the machine; None if it is our own fault."""
    if isinstance(error, CycloptsError):
        return _sentence(error)
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("fintune_kit"):
        extras = EXTRAS.get(" ".join(given[:2]), EXTRAS.get(given[0], "all"))
        return f"{given[0]} needs the package {error.name.partition('.')[0]}: pip install 'fintune-kit[{extras}]'"
    return describe_fault(error, arguments=given)


def _stop(*, by_a_signal: bool) -> int:
    signal = "SIGTERM" if by_a_signal else "Ctrl-C"
    print(
        f"stopped by {signal}; finished work is kept, and the same command continues from there",
        file=sys.stderr,
    )
    return TERMINATED if by_a_signal else STOPPED


def _refuse(sentence: str) -> int:
    print(f"error: {' '.join(sentence.split())}", file=sys.stderr)
    return 2


def _sentence(error: CycloptsError) -> str:
    """Cyclopts' own message, and the command that lists the flags."""
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        found = f"{error.unused_tokens[0]!r} was not expected here"
    else:
        found = str(error) if str(error).endswith("...") else str(error).removesuffix(".")
    return f"{found} (see `{' '.join(('fintune-kit', *(error.command_chain or ()), '--help'))}`)"
