"""The one door to Kaggle: its own client, imported when the first command needs it.

`import kaggle` authenticates and makes a folder in the home, so nobody who does not push pays for it. What the client
prints is caught (it may hold request headers); what it raises becomes a sentence without addresses, as those of
outputs are signed. Credentials are found by the client's own rules.
"""

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from fintune_kit.errors import MissingInputError, UserError
from fintune_kit.kaggle.replies import PushReply, State, remedy_for, state_of

_CHUNK = 1 << 20
_TIMEOUT = (20, 120)
"""Seconds to connect and between two bytes."""


class UnreachableError(UserError):
    """Kaggle did not answer, or not now: the same question may be answered in a minute."""


@dataclass(frozen=True, kw_only=True)
class Status:
    """How a kernel's latest session stands."""

    state: State
    message: str
    """Kaggle's failure message, often empty."""


@dataclass(frozen=True, kw_only=True)
class KernelInfo:
    """What Kaggle knows of a kernel."""

    version: int
    last_run: datetime | None
    machine_shape: str
    """Of the last session: what it got, not what it asked for."""


@dataclass(frozen=True, kw_only=True)
class OutputFile:
    """One file of a kernel's output."""

    name: str
    """Relative, with forward slashes."""
    url: str
    """Signed; never to be shown."""


@dataclass(frozen=True, kw_only=True)
class Quota:
    """Hours of an accelerator this week."""

    resource: str
    used_hours: float
    total_hours: float
    refresh: datetime | None


class Kaggle:
    """An authenticated session with Kaggle's API."""

    def __init__(self) -> None:
        """Authenticates by the client's own rules.

        Raises:
            MissingInputError: the client is not installed, or there are no credentials.
        """
        with _quiet():
            try:
                import kaggle
                from kaggle.api.kaggle_api_extended import KaggleApi
            except ImportError as error:
                raise MissingInputError(
                    f"Kaggle's client cannot be imported ({error}): pip install 'fintune-kit[kaggle]'"
                ) from error
            assert kaggle.__version__
            self._api: Any = KaggleApi()
            with _sentences("the account"):
                try:
                    self._api.authenticate()
                except SystemExit:
                    raise MissingInputError(
                        "no Kaggle credentials were found; make a token at kaggle.com/settings (API) and put it into "
                        "~/.kaggle/access_token, or set KAGGLE_API_TOKEN, or KAGGLE_USERNAME and KAGGLE_KEY"
                    ) from None

    @property
    def user(self) -> str:
        """The account's name."""
        return str(self._api.config_values.get(self._api.CONFIG_NAME_USER) or "")

    def push(self, folder: Path) -> PushReply:
        """Saves a new version of the kernel in a build folder and runs it. The reply is not judged here."""
        replies: list[Any] = []
        send = self._api.kernels_push

        def keep(*arguments: Any, **named: Any) -> Any:
            replies.append(send(*arguments, **named))
            return replies[-1]

        self._api.kernels_push = keep  # the client's own command prints the reply, and drops it
        try:
            with _quiet() as said, _sentences(folder.name):
                self._api.kernels_push_cli(str(folder), None, None)
        finally:
            self._api.kernels_push = send
        reply = replies[-1]
        return PushReply(
            said=_answer(said.getvalue()),
            version=reply.version_number,
            url=reply.url,
            error=reply.error or "",
            dropped={
                "dataset sources": list(reply.invalid_dataset_sources or []),
                "kernel sources": list(reply.invalid_kernel_sources or []),
                "model sources": list(reply.invalid_model_sources or []),
            },
        )

    def status(self, ref: str) -> Status:
        """How a kernel's latest session stands."""
        with _quiet(), _sentences(ref):
            reply = self._api.kernels_status(ref)
        return Status(state=state_of(reply.status.name), message=reply.failure_message or "")

    def info(self, ref: str) -> KernelInfo | None:
        """What Kaggle knows of a kernel; None where it has never been pushed."""
        from kagglesdk.kernels.types.kernels_api_service import ApiGetKernelRequest
        from requests import HTTPError

        request = ApiGetKernelRequest()
        request.user_name, request.kernel_slug = ref.split("/")
        with _quiet(), _sentences(ref), self._api.build_kaggle_client() as client:
            try:
                found = client.kernels.kernels_api_client.get_kernel(request).metadata
            except HTTPError as error:
                if error.response is not None and error.response.status_code in (403, 404):
                    return None  # Kaggle answers 403 for what does not exist
                raise
        return KernelInfo(
            version=found.current_version_number or 0,
            last_run=found.last_run_time,
            machine_shape=found.machine_shape or "",
        )

    def outputs(self, ref: str, *, version: int | None = None) -> tuple[list[OutputFile], str]:
        """The files of a kernel's output and its log; of the latest version where none is named.

        A version that was named and left nothing has no files.
        """
        from kagglesdk.kernels.types.kernels_api_service import ApiListKernelSessionOutputRequest
        from requests import HTTPError

        files: list[OutputFile] = []
        log, token = "", ""
        while True:
            request = ApiListKernelSessionOutputRequest()
            request.user_name, request.kernel_slug = ref.split("/")
            request.page_size, request.page_token = 100, token
            if version is not None:
                request.version_label = f"v{version}"  # a bare number is answered with 404
            with _quiet(), _sentences(ref), self._api.build_kaggle_client() as client:
                try:
                    reply = client.kernels.kernels_api_client.list_kernel_session_output(request)
                except HTTPError as error:
                    if version is not None and error.response is not None and error.response.status_code == 404:
                        return [], ""
                    raise
            files += [OutputFile(name=_inside(item.file_name), url=item.url) for item in reply.files or []]
            log = log or reply.log or ""
            token = reply.next_page_token or ""
            if not token:
                return files, log

    def download(self, file: OutputFile, target: Path) -> None:
        """Fetches a file aside and renames it; a part that an interrupted call has left is gone on with."""
        import requests

        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(target.name + ".partial")
        have = partial.stat().st_size if partial.is_file() else 0
        with _sentences(file.name):
            headers = {"Range": f"bytes={have}-"} if have else {}
            with requests.get(file.url, headers=headers, stream=True, timeout=_TIMEOUT) as reply:
                if reply.status_code == 416:  # all of it was there, or it is another file now
                    partial.unlink()
                    return self.download(file, target)
                reply.raise_for_status()
                with partial.open("ab" if reply.status_code == 206 else "wb") as stream:
                    for block in reply.iter_content(_CHUNK):
                        stream.write(block)
        partial.replace(target)
        return None

    def quota(self) -> list[Quota]:
        """This week's GPU and TPU hours."""
        with _quiet(), _sentences("the quota"):
            reply = self._api.quota_view()
        return [
            Quota(
                resource=name,
                used_hours=quota.time_used.total_seconds() / 3600,
                total_hours=quota.total_time_allowed.total_seconds() / 3600,
                refresh=reply.quota_refresh_time,
            )
            for name, quota in (("GPU", reply.gpu_quota), ("TPU", reply.tpu_quota))
            if quota is not None
        ]

    def publish_dataset(self, folder: Path, ref: str) -> None:
        """Uploads a folder as a private dataset, as a new version where it exists.

        Raises:
            UserError: Kaggle refused it.
        """
        exists = self.dataset_status(ref) is not None
        with _quiet(), _sentences(ref):
            reply = (
                self._api.dataset_create_version(str(folder), "fintune-kit kaggle push", quiet=True)
                if exists
                else self._api.dataset_create_new(str(folder), quiet=True)
            )
        if reply.error or str(reply.status).lower() != "ok":
            error = reply.error or reply.status
            raise UserError(f"Kaggle refused the dataset {ref} ({error}): {remedy_for(str(error))}")

    def dataset_status(self, ref: str) -> str | None:
        """`ready`, or what Kaggle still does with it; None where there is no such dataset."""
        from requests import HTTPError

        with _quiet(), _sentences(ref):
            try:
                return str(self._api.dataset_status(ref))
            except HTTPError as error:
                if error.response is not None and error.response.status_code in (403, 404):
                    return None
                raise


@contextlib.contextmanager
def _quiet() -> Iterator[io.StringIO]:
    """Catches what the client prints, on both streams."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        yield said


@contextlib.contextmanager
def _sentences(what: str) -> Iterator[None]:
    """Turns what the client raises into a sentence that holds no address and no header."""
    from requests import ConnectionError as NoConnection
    from requests import HTTPError, RequestException, Timeout

    try:
        yield
    except HTTPError as error:
        code = error.response.status_code if error.response is not None else 0
        advice = {
            401: "the token is not valid any more; make a new one at kaggle.com/settings (API)",
            403: "this account may not do that, or it does not exist; check the owner in kaggle-metadata.json",
            404: "it does not exist; push it first",
            429: "too many requests; wait a few minutes and run the same command again",
        }.get(code, "Kaggle has a fault; run the same command again later")
        kind = UnreachableError if code == 429 or code >= 500 else UserError
        raise kind(f"Kaggle answered {code} for {what}: {advice}") from None
    except (NoConnection, Timeout):
        raise UnreachableError(f"Kaggle could not be reached for {what}; check the network and run it again") from None
    except RequestException as error:
        raise UnreachableError(
            f"the answer for {what} broke off ({type(error).__name__}); run the same command again"
        ) from None
    except UserError:
        raise
    except ValueError as error:  # how the client reports what it refuses itself
        raise UserError(f"Kaggle's client refused {what} ({error}); correct that and run it again") from None


def _inside(name: str) -> str:
    """A file's name in an output, which must stay inside the folder that it is fetched to."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise UserError(f"the output names a file {name!r}, outside its folder; it is not fetched: look at the kernel")
    return path.as_posix()


def _answer(said: str) -> str:
    """What the client says of its own, without the requests that it may dump."""
    about = ("Kernel ", "The following are not valid", "Warning", "⚠", "Sessions run")
    return "\n".join(line.strip() for line in said.splitlines() if line.strip().startswith(about))
