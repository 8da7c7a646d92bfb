"""A Kaggle on loopback that speaks the real client's protocol, small enough to read.

The client is sent here as through a proxy (`http_proxy`), so its requests arrive in absolute form:
`POST http://localhost/api/v1/kernels.KernelsApiService/SaveKernel`, camelCase JSON.
"""

import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

Answer = int | tuple[int, dict[str, Any] | str]
"""A status code, or one with a body: an object is sent as JSON, a text as HTML."""


@dataclass
class Session:
    """One run of a kernel, as the server will tell of it: its states in turn, then its output."""

    states: list[str] = field(default_factory=lambda: ["COMPLETE"])
    files: dict[str, bytes] = field(default_factory=dict)
    log: str = ""
    failure: str = ""
    machine_shape: str = ""


@dataclass
class World:
    """The state of the fake server, and the requests that it got."""

    coming: list[Session] = field(default_factory=list)
    """Sessions of the pushes to come."""
    versions: dict[str, list[Session]] = field(default_factory=dict)
    """By `owner/slug`, the sessions that were pushed."""
    save_replies: list[dict[str, Any]] = field(default_factory=list)
    """Fields over the reply of the pushes to come."""
    datasets: dict[str, list[str]] = field(default_factory=dict)
    """By `owner/slug`, the states that it goes through."""
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    lag: int = 0
    """Times that a kernel is asked for after its second push and still answered with the first version."""
    out_of_service: list[Answer] = field(default_factory=list)
    """The answers to the next calls."""
    failing: dict[str, list[Answer]] = field(default_factory=dict)
    """By method, the answers to the next calls of it."""
    lost_answers: int = 0
    """Pushes that are carried out and answered with 502."""
    hanging: int = 0
    """Calls that are answered only when the server stops."""
    stopping: threading.Event = field(default_factory=threading.Event)
    cut_short: set[str] = field(default_factory=set)
    """Files of which the next download ends in the middle."""
    listings: int = 0
    """Lists of outputs that were sent; their number is the signature of the addresses in them."""
    expired: set[int] = field(default_factory=set)
    """Signatures that are not accepted any more."""
    endless_pages: bool = False
    """Each page of a list names the same next page."""
    streams: list[list[str]] = field(default_factory=list)
    """The events of each connection to a running log; without `END_OF_LOG` the connection breaks off."""
    uploads: list[bytes] = field(default_factory=list)

    def bodies(self, method: str) -> list[dict[str, Any]]:
        """The bodies of the calls of a method."""
        return [body for called, body in self.calls if called == method]

    def latest(self, body: dict[str, Any]) -> Session | None:
        """The session that a request is about."""
        sessions = self.versions.get(f"{body['userName']}/{body['kernelSlug']}", [])
        if not sessions:
            return None
        labelled = {f"v{number}": session for number, session in enumerate(sessions, start=1)}
        return labelled.get(body["versionLabel"]) if body.get("versionLabel") else sessions[-1]


def save_kernel(world: World, body: dict[str, Any]) -> dict[str, Any]:
    reply = world.save_replies.pop(0) if world.save_replies else {}
    if "error" in reply:
        return reply
    sessions = world.versions.setdefault(body["slug"], [])
    sessions.append(world.coming.pop(0) if world.coming else Session())
    return {
        "ref": body["slug"],
        "url": f"https://kaggle.com/code/{body['slug']}",
        "versionNumber": len(sessions),
    } | reply


def get_status(world: World, body: dict[str, Any]) -> dict[str, Any] | None:
    session = world.latest(body)
    if session is None:
        return None
    state = session.states.pop(0) if len(session.states) > 1 else session.states[0]
    return {"status": state, "failureMessage": session.failure if state not in ("QUEUED", "RUNNING") else ""}


def get_kernel(world: World, body: dict[str, Any]) -> dict[str, Any] | None:
    ref = f"{body['userName']}/{body['kernelSlug']}"
    if ref not in world.versions:
        return None
    sessions = world.versions[ref]
    behind = len(sessions) > 1 and bool(world.lag)
    world.lag -= behind
    about = {"ref": ref, "currentVersionNumber": len(sessions) - behind, "lastRunTime": "2026-11-22T10:00:00Z"}
    return {"metadata": about | {"machineShape": sessions[-1].machine_shape}, "blob": {}}


def list_output(world: World, body: dict[str, Any]) -> dict[str, Any] | None:
    session = world.latest(body)
    if session is None:
        return None
    names = sorted(session.files)
    start = int(body.get("pageToken") or 0)
    page = names[start : start + 2]  # small pages, so that every test turns one
    ref = f"{body['userName']}/{body['kernelSlug']}"
    version = world.versions[ref].index(session)
    if not start:
        world.listings += 1
    signed = f"Signature=SIGNED-{world.listings}"
    files = [{"url": f"http://localhost/f/{ref}/{version}/{n}?{signed}", "fileName": n} for n in page]
    more = {"nextPageToken": str(start + 2)} if start + 2 < len(names) else {}
    if world.endless_pages:
        more = {"nextPageToken": "2"}
    return {"files": files, "log": session.log if not start else ""} | more


def get_quota(world: World, body: dict[str, Any]) -> dict[str, Any]:
    hours = {"timeUsed": "3600s", "totalTimeAllowed": "108000s"}
    return {
        "gpuQuota": hours,
        "tpuQuota": hours | {"totalTimeAllowed": "72000s"},
        "quotaRefreshTime": "2026-11-28T00:00:00Z",
    }


def dataset_status(world: World, body: dict[str, Any]) -> dict[str, Any] | None:
    states = world.datasets.get(f"{body['ownerSlug']}/{body['datasetSlug']}")
    return {"status": states.pop(0) if len(states) > 1 else states[0]} if states else None


def create_dataset(world: World, body: dict[str, Any]) -> dict[str, Any]:
    world.datasets[f"{body['ownerSlug']}/{body['slug']}"] = ["NOT_YET_PERSISTED", "READY"]
    return {"status": "ok", "url": "https://kaggle.com/datasets/x", "ref": body["slug"]}


def version_dataset(world: World, body: dict[str, Any]) -> dict[str, Any]:
    return {"status": "ok", "url": "https://kaggle.com/datasets/x"}


def start_upload(world: World, body: dict[str, Any]) -> dict[str, Any]:
    return {"token": "blob", "createUrl": "http://localhost/upload"}


def introspect(world: World, body: dict[str, Any]) -> dict[str, Any]:
    return {"active": body["token"] == "KGAT_good", "username": "alice"}


METHODS: dict[str, Callable[[World, dict[str, Any]], dict[str, Any] | None]] = {
    "SaveKernel": save_kernel,
    "GetKernelSessionStatus": get_status,
    "GetKernel": get_kernel,
    "ListKernelSessionOutput": list_output,
    "GetAcceleratorQuotaStatistics": get_quota,
    "GetDatasetStatus": dataset_status,
    "CreateDataset": create_dataset,
    "CreateDatasetVersion": version_dataset,
    "StartBlobUpload": start_upload,
    "IntrospectToken": introspect,
}


class Handler(BaseHTTPRequestHandler):
    """Answers from the server's world."""

    protocol_version = "HTTP/1.1"

    @property
    def world(self) -> World:
        return self.server.world  # type: ignore[attr-defined]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or "{}")
        method = self.path.rpartition("/")[2]
        self.world.calls.append((method, body))
        self.world.headers.append(dict(self.headers))
        if self.world.hanging:
            self.world.hanging -= 1
            self.world.stopping.wait()
            return
        if answers := self.world.out_of_service or self.world.failing.get(method):
            answer = answers.pop(0)
            self.answer(*(answer if isinstance(answer, tuple) else (answer, {"message": "out of service"})))
            return
        reply = METHODS[method](self.world, body)
        if method == "SaveKernel" and self.world.lost_answers:
            self.world.lost_answers -= 1
            self.answer(502, "<html>Bad Gateway</html>")
            return
        self.answer(404 if reply is None else 200, reply if reply is not None else {"message": "not found"})

    def do_PUT(self) -> None:
        self.world.uploads.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.answer(200, {})

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        if "/kernels/logs/stream/" in address.path:
            self.stream(self.world.streams.pop(0))
            return
        _, _, owner, slug, version, *parts = unquote(address.path).split("/")
        name = "/".join(parts)
        self.world.calls.append((f"GET {name}", {"range": self.headers.get("Range")}))
        if int(address.query.rpartition("-")[2]) in self.world.expired:
            self.answer(403, "<Error><Code>ExpiredToken</Code></Error>")
            return
        content = self.world.versions[f"{owner}/{slug}"][int(version)].files[name]
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        if start and start >= len(content):
            self.answer(416, "")
            return
        part = content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        if name in self.world.cut_short:
            self.world.cut_short.discard(name)
            part = part[: len(part) // 2]
            self.close_connection = True
        self.wfile.write(part)

    def stream(self, events: list[str]) -> None:
        """The log of a running session, as server-sent events; in pieces, so that a client sees one that breaks off."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in events:
            data = f"data: {event}\n\n".encode()
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        if events[-1:] == ["END_OF_LOG"]:
            self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True

    def answer(self, code: int, reply: dict[str, Any] | str) -> None:
        is_text = isinstance(reply, str)
        content = (reply if is_text else json.dumps(reply)).encode()
        self.send_response(code)
        self.send_header("Content-Type", "text/html" if is_text else "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: Any) -> None:
        """Quiet."""


class Server(ThreadingHTTPServer):
    """Says nothing of a client that has gone away, which a test may want."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def running(world: World) -> Iterator[int]:
    """Serves a world on a free port of loopback, and yields the port."""
    server = Server(("127.0.0.1", 0), Handler)
    server.world = world  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        world.stopping.set()
        server.shutdown()
        server.server_close()
        thread.join()
