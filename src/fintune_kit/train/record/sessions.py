"""The history of a run's sessions: each call of `train` that takes steps, and the machine that it ran on.

    run/sessions.jsonl    {"began": "2026-01-31T09:12:44+00:00", "from_step": 0, "machine": "2 x Tesla T4",
                           "device": "t4x2", "processes": 2, "dtype": "float16",
                           "versions": {"python": "3.12.4", "torch": "2.10.0", ...},
                           "base": {"config.json": "5a...", "model.safetensors": "c0..."}}

A run may continue on another machine. Its steps are then rounded in another way, so a line on stderr says what changed.
The base must stay the same. For a folder, the SHA-256 of its config and of all its weights is compared; for a hub id,
the revision, because the hub's cache is trusted.
"""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fintune_kit.errors import UserError
from fintune_kit.plan.plan import Plan
from fintune_kit.train.model import load_config
from fintune_kit.workspace import sha256_of, versions, write_text

log = logging.getLogger(__name__)

NAME = "sessions.jsonl"
Session = Mapping[str, Any]


def begin_session(run: Path, *, from_step: int, plan: Plan, machine: str, base: str | Path) -> None:
    """Adds a session to the history of a run, and says how it differs from the one before.

    Args:
        run: the folder of the run.
        from_step: optimizer steps that are done already.
        plan: of this session.
        machine: the name of the machine.
        base: hub id or folder of the base model.

    Raises:
        UserError: the base has other contents than in an earlier session.
    """
    earlier = read_sessions(run / NAME)
    session = {
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "from_step": from_step,
        "machine": machine,
        "device": plan.device,
        "processes": plan.processes,
        "dtype": plan.dtype,
        "versions": versions(),
        "base": base_contents(base),
    }
    if from_step:
        _refuse_another_base(session, earlier, base=base)
        if earlier and (changes := list(_changes(earlier[-1], session))):
            log.warning(
                "going on after step %d with %s: from here on steps are rounded in another way",
                from_step,
                ", ".join(changes),
            )
    write_text(run / NAME, "".join(json.dumps(each) + "\n" for each in [*earlier, session]))


def read_sessions(path: Path) -> list[Session]:
    """The sessions of a run in order, without damaged lines."""
    lines = path.read_bytes().splitlines() if path.is_file() else []
    return [session for line in lines if (session := _session(line)) is not None]


def base_contents(base: str | Path) -> dict[str, str]:
    """The contents of a base model: a SHA-256 for each file of a folder, or the revision of a hub id.

    Empty if transformers does not tell the revision of a hub id.
    """
    folder = Path(base)
    if folder.is_dir():
        return {path.name: sha256_of(path) for path in [folder / "config.json", *sorted(folder.glob("*.safetensors"))]}
    revision = getattr(load_config(base), "_commit_hash", None)
    return {"revision": revision} if revision else {}


def _session(line: bytes) -> Session | None:
    try:
        session = json.loads(line)
    except ValueError:
        return None
    return session if isinstance(session, dict) else None


def _refuse_another_base(session: Session, earlier: Sequence[Session], *, base: str | Path) -> None:
    known: dict[str, str] = next((found for each in reversed(earlier) if (found := each.get("base"))), {})
    now = session["base"]
    differing = sorted(name for name in known.keys() & now.keys() if known[name] != now[name])
    if differing:
        what = "revision" if "revision" in now else "content (SHA-256)"
        raise UserError(
            f"{base} has another {what} than when this run began ({', '.join(differing)}); expected the same base: "
            f"restore it, or start over with --fresh"
        )


def _changes(before: Session, now: Session) -> Iterator[str]:
    """The differences between two sessions, such as `dtype bfloat16 (before: float16)`."""
    for name in ("machine", "device", "processes", "dtype"):
        if before.get(name) != now[name]:
            yield f"{name} {now[name]} (before: {before.get(name)})"
    packages = before.get("versions") or {}
    for name, version in now["versions"].items():
        if packages.get(name) != version:
            yield f"{name} {version} (before: {packages.get(name)})"
