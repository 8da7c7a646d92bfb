"""The only door to Kaggle: in it, every request has a timeout, prints nothing, and fails with a sentence.

Kaggle's client gives its requests no timeout, prints request headers, and lets the exceptions of the network through.
Inside this door, each of them becomes one of these:

    UnreachableError    no answer, or one that cannot be read; the same call may succeed in a minute
    AbsentError         Kaggle says that the thing is not there, or not for this account (it answers both with 403)
    UserError           a refusal, with Kaggle's own reason and its remedy
"""

import contextlib
import io
import json
import re
from collections.abc import Iterator
from typing import Any

from fintune_kit.errors import UserError
from fintune_kit.kaggle.calls.replies import remedy_for

TIMEOUT = (20.0, 120.0)
"""Seconds to connect, and seconds without a byte."""
_REASON_CHARACTERS = 300


class UnreachableError(UserError):
    """Kaggle gave no answer that can be read. The same call may succeed in a minute."""


class AbsentError(UserError):
    """Kaggle does not know the thing, or does not show it to this account."""


@contextlib.contextmanager
def at_the_door(about: str, *, timeout: tuple[float, float] | None = None) -> Iterator[io.StringIO]:
    """Lets calls of Kaggle's client through, and yields the text that the client prints meanwhile.

    Args:
        about: the thing that the calls are about, for the sentence of an error.
        timeout: seconds to connect and seconds without a byte; None takes `TIMEOUT`.

    Raises:
        UnreachableError, AbsentError, UserError: as said on top of this module.
    """
    printed = io.StringIO()
    with (
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
        _timeouts(timeout or TIMEOUT),
        sentences(about),
    ):
        yield printed


@contextlib.contextmanager
def sentences(about: str) -> Iterator[None]:
    """Turns the exceptions of the network and of Kaggle's client into ours, without addresses and headers."""
    from requests import ConnectionError as NoConnection
    from requests import HTTPError, JSONDecodeError, RequestException, Timeout

    try:
        yield
    except UserError:
        raise
    except HTTPError as error:
        raise _error_of(error.response, about) from None
    except (JSONDecodeError, json.JSONDecodeError):
        raise UnreachableError(
            f"Kaggle's answer about {about} is not JSON, as during an outage; run the same command again later"
        ) from None
    except (NoConnection, Timeout):
        raise UnreachableError(
            f"Kaggle could not be reached about {about}; check the network and run the same command again"
        ) from None
    except RequestException as error:
        raise UnreachableError(
            f"Kaggle's answer about {about} broke off ({type(error).__name__}); run the same command again"
        ) from None
    except (AttributeError, KeyError, TypeError) as error:  # the client trusts the form of what it is sent
        raise UnreachableError(
            f"Kaggle's answer about {about} has an unknown form ({type(error).__name__}: {error}); run the same "
            f"command again later, or update Kaggle's client"
        ) from None
    except ValueError as error:  # the client's own checks
        raise UserError(f"Kaggle's client refused {about} ({error}); correct that and run it again") from None


def _error_of(response: Any, about: str) -> UserError:
    """Our error for an HTTP status. 400, 409 and 413 carry Kaggle's own reason in their body."""
    code = response.status_code if response is not None else 0
    reason = _reason_of(response)
    said = f"Kaggle answered {code} about {about}{f' ({reason})' if reason else ''}"
    remedy = remedy_for(reason) if reason else None
    if code == 401:
        return UserError(f"{said}: the token is not valid any more; make a new one at kaggle.com/settings (API)")
    if code in (403, 404):
        return AbsentError(f"{said}: {remedy or 'it does not exist, or this account may not see it; check the owner'}")
    if code == 413:
        return UserError(f"{said}: it is too large; use --deliver dataset")
    if code in (408, 429):
        return UnreachableError(f"{said}: too many requests; wait a few minutes and run the same command again")
    if 400 <= code < 500:
        return UserError(f"{said}: {remedy or 'correct that and run it again'}")
    return UnreachableError(f"{said}: Kaggle has a fault; run the same command again later")


def _reason_of(response: Any) -> str:
    """Kaggle's reason in the body of an error, on one line and without addresses; empty where it gives none."""
    try:
        body = response.json()
    except (AttributeError, ValueError):
        return ""
    for key in ("error", "message"):
        while isinstance(body, dict) and key in body:
            body = body[key]
    text = re.sub(r"https?://\S+", "", body) if isinstance(body, str) else ""
    return " ".join(text.split())[:_REASON_CHARACTERS]


@contextlib.contextmanager
def _timeouts(timeout: tuple[float, float]) -> Iterator[None]:
    """Sets the timeout of each request that has none. The client cannot set one, so `requests` is changed."""
    from requests.adapters import HTTPAdapter

    send = HTTPAdapter.send

    def _send_in_time(self: HTTPAdapter, request: Any, **how: Any) -> Any:
        return send(self, request, **{**how, "timeout": how.get("timeout") or timeout})

    HTTPAdapter.send = _send_in_time  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        HTTPAdapter.send = send  # type: ignore[method-assign]
