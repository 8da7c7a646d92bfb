"""All calls to Kaggle. They use Kaggle's own client, and go through the door (`door.py`).

`import kaggle` logs in and creates a folder in the home directory, so it happens only when a command needs it. The
client finds the credentials by its own rules.

A call names a version of a kernel by its label, such as `v3`. Without a label, Kaggle answers about the newest version.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from fintune_kit.errors import MissingInputError, UserError
from fintune_kit.kaggle.calls.door import AbsentError, UnreachableError, at_the_door
from fintune_kit.kaggle.calls.download import download
from fintune_kit.kaggle.calls.replies import LogLine, PushReply, State, remedy_for, state_of

_MAX_PAGES = 1000


@dataclass(frozen=True, kw_only=True)
class Status:
    """The state of a kernel's session."""

    state: State
    message: str = ""
    """Kaggle's own reason for a failure, often empty."""


@dataclass(frozen=True, kw_only=True)
class KernelInfo:
    """Kaggle's entry for a kernel."""

    version: int
    """The number of the newest version."""
    last_run: datetime | None
    machine_shape: str
    """The machine of the last session. It may differ from the requested one."""


@dataclass(frozen=True, kw_only=True)
class OutputFile:
    """One file of a kernel's output."""

    ref: str
    version: int | None
    name: str
    """Relative, with forward slashes."""
    url: str
    """Signed, so it is never printed, and it expires."""


@dataclass(frozen=True, kw_only=True)
class Quota:
    """The hours of one kind of accelerator in this week."""

    resource: str
    used_hours: float
    total_hours: float
    refresh: datetime | None


class Kaggle:
    """An authenticated session with Kaggle."""

    def __init__(self) -> None:
        """Logs in by the rules of Kaggle's client.

        Raises:
            MissingInputError: the client is not installed, or there are no credentials.
        """
        with at_the_door("the account"):
            try:
                import kaggle
                from kaggle.api.kaggle_api_extended import KaggleApi
            except ImportError as error:
                raise MissingInputError(
                    f"Kaggle's client cannot be imported ({error}): pip install 'fintune-kit[kaggle]'"
                ) from error
            assert kaggle.__version__
            self._api: Any = KaggleApi()
            try:
                self._api.authenticate()
            except SystemExit:
                raise MissingInputError(
                    "there are no Kaggle credentials; make a token at kaggle.com/settings (API) and put it into "
                    "~/.kaggle/access_token, or set KAGGLE_API_TOKEN, or KAGGLE_USERNAME and KAGGLE_KEY"
                ) from None

    @property
    def user(self) -> str:
        """The name of the account."""
        return str(self._api.config_values.get(self._api.CONFIG_NAME_USER) or "")

    def push(self, folder: Path) -> PushReply:
        """Saves a build folder as a new version of its kernel, which Kaggle then runs. The reply is not checked."""
        with at_the_door(folder.name) as printed:
            reply = self._api.kernels_push(str(folder))
            return PushReply(
                warnings=_warnings(printed.getvalue()),
                version=reply.version_number or 0,
                ref=reply.ref or "",
                url=reply.url or "",
                error=reply.error or "",
                dropped={
                    "competition sources": list(reply.invalid_competition_sources or []),
                    "dataset sources": list(reply.invalid_dataset_sources or []),
                    "kernel sources": list(reply.invalid_kernel_sources or []),
                    "model sources": list(reply.invalid_model_sources or []),
                },
            )

    def status(self, ref: str, *, version: int | None = None) -> Status:
        """The state of a version's session. A state that the client does not know counts as running."""
        from kagglesdk.kernels.types.kernels_api_service import ApiGetKernelSessionStatusRequest

        request = _about(ApiGetKernelSessionStatusRequest(), ref, version)
        with at_the_door(ref), self._api.build_kaggle_client() as client:
            try:
                reply = client.kernels.kernels_api_client.get_kernel_session_status(request)
            except KeyError as unknown:
                return Status(state="running", message=f"Kaggle calls it {unknown.args[0]}")
            return Status(state=state_of(reply.status.name), message=reply.failure_message or "")

    def info(self, ref: str) -> KernelInfo | None:
        """Kaggle's entry for a kernel; None if it was never pushed.

        Kaggle answers 403 both for a missing kernel and for a temporary fault, so two calls must agree.
        """
        from kagglesdk.kernels.types.kernels_api_service import ApiGetKernelRequest

        try:
            with at_the_door(ref), self._api.build_kaggle_client() as client:
                found = client.kernels.kernels_api_client.get_kernel(_about(ApiGetKernelRequest(), ref)).metadata
                return KernelInfo(
                    version=found.current_version_number or 0,
                    last_run=_in_utc(found.last_run_time),
                    machine_shape=found.machine_shape or "",
                )
        except AbsentError:
            if self._has_session(ref):
                raise UnreachableError(
                    f"Kaggle knows a session of {ref} but does not show the kernel; run the same command again"
                ) from None
            return None

    def _has_session(self, ref: str, version: int | None = None) -> bool:
        try:
            self.status(ref, version=version)
        except AbsentError:
            return False
        return True

    def outputs(self, ref: str, *, version: int | None = None) -> tuple[list[OutputFile], str]:
        """The files of a version's output and its log. A version that never ran has no files.

        Raises:
            AbsentError: Kaggle knows the session but does not show its output.
            UnreachableError: the pages of the list do not end.
        """
        files: list[OutputFile] = []
        log, token = "", ""
        seen: set[str] = set()
        while len(seen) < _MAX_PAGES:
            try:
                reply = self._page(ref, version, token)
            except AbsentError:
                if version is None or self._has_session(ref, version):
                    raise
                return [], ""
            files += [
                OutputFile(ref=ref, version=version, name=_inside(item.file_name), url=item.url)
                for item in reply.files or []
            ]
            log = log or reply.log or ""
            seen.add(token)
            token = reply.next_page_token or ""
            if not token:
                return files, log
            if token in seen:
                break
        raise UnreachableError(f"Kaggle's list of the files of {ref} does not end; run the same command again later")

    def _page(self, ref: str, version: int | None, token: str) -> Any:
        from kagglesdk.kernels.types.kernels_api_service import ApiListKernelSessionOutputRequest

        request = _about(ApiListKernelSessionOutputRequest(), ref, version)
        request.page_size, request.page_token = 100, token
        with at_the_door(ref), self._api.build_kaggle_client() as client:
            return client.kernels.kernels_api_client.list_kernel_session_output(request)

    def download(self, file: OutputFile, target: Path) -> None:
        """Downloads a file of an output. If its address has expired, it asks for a new one once.

        Raises:
            UnreachableError: the answer broke off. The next call continues from there.
            UserError: the output no longer has this file.
        """
        if download(file.url, target, version=file.version):
            return
        files, _ = self.outputs(file.ref, version=file.version)
        fresh = [other for other in files if other.name == file.name]
        if not fresh or not download(fresh[0].url, target, version=file.version):
            raise UserError(f"Kaggle does not give out {file.name} of {file.ref}; look at the page of the kernel")

    def read(self, file: OutputFile) -> bytes:
        """The content of a small file.

        Raises:
            UserError: the output no longer has this file.
        """
        from tempfile import TemporaryDirectory

        with TemporaryDirectory() as folder:
            target = Path(folder) / "file"
            self.download(file, target)
            return target.read_bytes()

    def follow(self, ref: str) -> Iterator[LogLine]:
        """The log of the running session, piece by piece, until the session ends."""
        with at_the_door(ref):
            pieces = self._api.kernels_logs_stream(ref)
        while True:
            with at_the_door(ref):
                piece = next(pieces, None)
            if piece is None:
                return
            yield LogLine(stream=str(piece.get("stream_name", "")), seconds=0.0, text=str(piece.get("data", "")))

    def quota(self) -> list[Quota]:
        """The GPU and TPU hours of this week."""
        with at_the_door("the quota"):
            reply = self._api.quota_view()
            return [
                Quota(
                    resource=name,
                    used_hours=quota.time_used.total_seconds() / 3600,
                    total_hours=quota.total_time_allowed.total_seconds() / 3600,
                    refresh=_in_utc(reply.quota_refresh_time),
                )
                for name, quota in (("GPU", reply.gpu_quota), ("TPU", reply.tpu_quota))
                if quota is not None
            ]

    def publish_dataset(self, folder: Path, ref: str, *, public: bool = False) -> None:
        """Uploads a folder with its sub-folders as a dataset, or as a new version if the dataset exists.

        Args:
            public: everybody may see a new dataset. An existing dataset keeps its setting.

        Raises:
            UserError: Kaggle refused it.
        """
        exists = self.dataset_status(ref) is not None
        with at_the_door(ref):
            # Sub-folders are sent as archives, which Kaggle unpacks. By default the client leaves them out.
            reply = (
                self._api.dataset_create_version(str(folder), "fintune-kit", quiet=True, dir_mode="zip")
                if exists
                else self._api.dataset_create_new(str(folder), public=public, quiet=True, dir_mode="zip")
            )
            refused = "" if str(reply.status).lower() == "ok" and not reply.error else str(reply.error or reply.status)
        if refused:
            raise UserError(
                f"Kaggle refused the dataset {ref} ({refused}): {remedy_for(refused) or 'correct that and push again'}"
            )

    def dataset_status(self, ref: str) -> str | None:
        """`ready`, or the state of a dataset that Kaggle is still creating; None if there is no such dataset."""
        try:
            with at_the_door(ref):
                return str(self._api.dataset_status(ref))
        except AbsentError:
            return None


def _about(request: Any, ref: str, version: int | None = None) -> Any:
    """A request about a kernel, or about one of its versions."""
    request.user_name, request.kernel_slug = ref.split("/")
    if version is not None:
        request.version_label = f"v{version}"  # Kaggle answers a bare number with 404
    return request


def _inside(name: str) -> str:
    """Checks that the name of an output file stays inside the folder for downloads, and returns it."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise UserError(f"the output names a file {name!r} outside its folder; it is not fetched: look at the kernel")
    return path.as_posix()


def _in_utc(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment and not moment.tzinfo else moment


def _warnings(printed: str) -> Sequence[str]:
    """The client's own warnings, without the requests that it may print."""
    signs = ("Warning", "⚠", "Sessions run")
    return tuple(line.strip() for line in printed.splitlines() if line.strip().startswith(signs))
