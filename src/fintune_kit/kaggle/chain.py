"""The chain on Kaggle: push a kernel, wait for it, go on to the next, and go on with one that was stopped.

    push 01 -> wait -> complete, conversations/manifest.json is there -> push 02 -> ...
    push 03 -> wait -> complete, adapter/manifest.json is not there: stopped by its time budget
            -> push 03 with its own output attached -> ...

A kernel is done when each stage that it writes has its manifest, whatever Kaggle says of its session.
"""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fintune_kit.errors import UserError
from fintune_kit.kaggle.client import Kaggle, OutputFile, Status, UnreachableError
from fintune_kit.kaggle.delivery import Delivery
from fintune_kit.kaggle.kernels import WHEEL_FOLDER, BuiltKernel, build_kernels
from fintune_kit.kaggle.manifest import Chain, Kernel
from fintune_kit.kaggle.replies import failing_cell, find_push_fault, last_error, read_log
from fintune_kit.workspace import MANIFEST, write_text

POLL_SECONDS = 60.0
MOST_SILENCES = 30
"""Polls in a row that Kaggle may leave unanswered: half an hour of a run that takes twelve."""
MOST_SESSIONS = 12
VERSIONS_LOOKED_AT = 5

_CHECKPOINT = re.compile(r"run/checkpoints/checkpoint-(\d+)/manifest\.json")


@dataclass(frozen=True, kw_only=True)
class PushOptions:
    """How a chain is pushed."""

    out: Path
    """Build folders, and the logs of runs that failed."""
    delivery: Delivery
    wait: bool = False
    resume: bool = False
    """Attach each kernel's own previous output."""
    until_done: bool = False
    """Push a kernel that was stopped again, until it is done. Waits."""
    force_accelerator: bool = False
    say: Callable[[str], None] = print
    sleep: Callable[[float], None] = time.sleep


def push_chain(kaggle: Kaggle, chain: Chain, kernels: Sequence[Kernel], *, options: PushOptions) -> None:
    """Builds and checks all kernels, then pushes them in order.

    Raises:
        UserError: a fault in one of them (nothing is sent then), a refusal, or a run that failed.
    """
    wait = options.wait or options.until_done
    _check_order(kernels, wait=wait)
    _build(chain, kernels, options=options)
    _check_inputs(kaggle, chain, kernels)
    if options.delivery.dataset:
        _publish(kaggle, options=options)
    for kernel in kernels:
        previous = previous_output(kaggle, kernel) if options.resume else None
        if previous == "":
            options.say(f"{kernel.name}: done already, nothing to go on with")
            continue
        _push_until_done(kaggle, chain, kernel, options=options, previous=previous, wait=wait)


def previous_output(kaggle: Kaggle, kernel: Kernel) -> str | None:
    """The source that holds a kernel's newest checkpoint, `owner/slug/version`; empty where the kernel is done.

    A session that failed early has no checkpoint; then the version before it is looked at.

    Raises:
        UserError: the kernel still runs, or no version of it has a checkpoint.
    """
    info = kaggle.info(kernel.ref)
    if info is None:
        raise UserError(f"{kernel.ref} has never been pushed, so there is nothing to go on with: push without --resume")
    if kaggle.status(kernel.ref).state in ("waiting", "running"):
        raise UserError(f"{kernel.ref} still runs; wait until it ends (`fintune-kit kaggle status`), then push again")
    for version in range(info.version, max(0, info.version - VERSIONS_LOOKED_AT), -1):
        files, _ = kaggle.outputs(kernel.ref, version=version)
        if not missing_stages(kernel, files):
            return ""
        if newest_step(files):
            return f"{kernel.ref}/{version}"
    raise UserError(
        f"no output of {kernel.ref} holds a checkpoint (versions {info.version} and before were looked at): push "
        f"without --resume to start over"
    )


def missing_stages(kernel: Kernel, files: Sequence[OutputFile]) -> list[str]:
    """Stages that a kernel writes and that its output does not hold, or not whole."""
    names = {file.name for file in files}
    return [stage for stage in kernel.writes if f"{stage}/{MANIFEST}" not in names]


def newest_step(files: Sequence[OutputFile]) -> int:
    """Optimizer steps of the newest sealed checkpoint in an output; 0 where there is none."""
    return max((int(match.group(1)) for file in files if (match := _CHECKPOINT.fullmatch(file.name))), default=0)


def wait_for(kaggle: Kaggle, kernel: Kernel, *, version: int, options: PushOptions) -> Status:
    """Polls until the session of a version has ended. Kaggle may be out of reach for a while without ending the wait.

    Just after a push the answer may still be about the version before: its state is asked once the new one is known.
    """
    said, waited, silences, known = "", 0.0, 0, False
    while True:
        try:
            info = None if known else kaggle.info(kernel.ref)
            known = known or (info is not None and info.version >= version)
            status = kaggle.status(kernel.ref) if known else Status(state="waiting", message="")
            silences = 0
            if status.state not in ("waiting", "running"):
                return status
            if status.state != said:
                options.say(f"{kernel.name}: {status.state} after {waited / 60:.0f} min")
                said = status.state
        except UnreachableError:
            silences += 1
            if silences > MOST_SILENCES:
                raise
        options.sleep(POLL_SECONDS)
        waited += POLL_SECONDS


def _push_until_done(
    kaggle: Kaggle, chain: Chain, kernel: Kernel, *, options: PushOptions, previous: str | None, wait: bool
) -> None:
    steps_before = 0
    for _ in range(MOST_SESSIONS):
        (built,) = _build(chain, [kernel], options=options, previous=previous)
        version = _push(kaggle, built, options=options)
        if not wait:
            return
        status = wait_for(kaggle, kernel, version=version, options=options)
        files, log = kaggle.outputs(kernel.ref)
        if status.state != "complete":
            raise UserError(_what_failed(kernel, status, log, built=built, options=options))
        missing = missing_stages(kernel, files)
        if not missing:
            options.say(f"{kernel.name}: done, version {version} wrote {', '.join(kernel.writes)}")
            return
        steps = newest_step(files)
        if not steps:
            raise UserError(
                f"{kernel.name} ended without {' and '.join(missing)} and without a checkpoint; read its log at "
                f"kaggle.com/code/{kernel.ref}"
            )
        options.say(f"{kernel.name}: stopped by its time budget after {steps} optimizer steps, with a checkpoint")
        if not options.until_done:
            raise UserError(
                f"{kernel.name} is not done (no {' and no '.join(missing)}); go on with `fintune-kit kaggle push "
                f"{kernel.name} --resume --wait`, or --until-done"
            )
        if steps <= steps_before:
            raise UserError(
                f"{kernel.name} made no step beyond {steps} in its last session; raise FINTUNE_TIME_BUDGET, or take a "
                f"faster accelerator, before it is pushed again"
            )
        steps_before, previous = steps, f"{kernel.ref}/{version}"
    raise UserError(f"{kernel.name} is not done after {MOST_SESSIONS} sessions; look at its log before it goes on")


def _build(
    chain: Chain, kernels: Sequence[Kernel], *, options: PushOptions, previous: str | None = None
) -> list[BuiltKernel]:
    return build_kernels(
        chain,
        kernels,
        out=options.out,
        delivery=options.delivery,
        resume_from={kernels[0].name: previous} if previous else None,
        force_accelerator=options.force_accelerator,
    )


def _push(kaggle: Kaggle, built: BuiltKernel, *, options: PushOptions) -> int:
    reply = kaggle.push(built.folder)
    if fault := find_push_fault(reply, any_machine=options.force_accelerator):
        raise UserError(f"{built.kernel.name}: {fault}")
    options.say(f"{built.kernel.name}: pushed as version {reply.version}, {reply.url}")
    return reply.version


def _publish(kaggle: Kaggle, *, options: PushOptions) -> None:
    ref = options.delivery.dataset
    assert ref is not None
    kaggle.publish_dataset(options.out / WHEEL_FOLDER, ref)
    for _ in range(MOST_SILENCES):  # it is created while the answer is already there, and cannot be attached before
        status = kaggle.dataset_status(ref)
        if status == "ready":
            options.say(f"{ref}: {options.delivery.name} is ready")
            return
        if status in ("failed", "deleted"):
            raise UserError(f"the dataset {ref} is {status}; look at it on kaggle.com, then push again")
        options.sleep(POLL_SECONDS / 4)
    raise UserError(f"the dataset {ref} is not ready after minutes; look at it on kaggle.com, then push again")


def _check_order(kernels: Sequence[Kernel], *, wait: bool) -> None:
    if wait:
        return
    names = {kernel.name for kernel in kernels}
    for kernel in kernels:
        if running := [name for name in kernel.after if name in names]:
            raise UserError(
                f"{kernel.name} reads what {', '.join(running)} would still be writing; add --wait, or push them one "
                f"after the other"
            )


def _check_inputs(kaggle: Kaggle, chain: Chain, kernels: Sequence[Kernel]) -> None:
    """What a kernel reads must be finished: Kaggle would attach an older output, or none, and say nothing."""
    names = {kernel.name for kernel in kernels}
    for name in dict.fromkeys(name for kernel in kernels for name in kernel.after if name not in names):
        before = chain.kernel(name)
        if kaggle.info(before.ref) is None:
            raise UserError(
                f"{before.ref} has never been pushed; push {name} first, or all with --all --wait, or name another "
                f"that writes the same with --after"
            )
        state = kaggle.status(before.ref).state
        missing = [] if state != "complete" else missing_stages(before, kaggle.outputs(before.ref)[0])
        if state != "complete" or missing:
            what = f"has not written {' and '.join(missing)}" if missing else f"is {state}"
            raise UserError(f"{name} {what}; expected it complete: look at it with `fintune-kit kaggle status`")


def _what_failed(kernel: Kernel, status: Status, log: str, *, built: BuiltKernel, options: PushOptions) -> str:
    lines = read_log(log)
    kept = options.out / f"{kernel.name}.log"
    write_text(kept, "".join(line.text for line in lines))
    if status.state == "cancelled":
        return f"{kernel.name} was cancelled; push it again, with --resume if it had a checkpoint (log: {kept})"
    if cell := failing_cell(lines):
        options.say(f"{kernel.name}: cell {cell[0]} failed\n{cell[1]}")
    said = status.message or last_error(lines)
    where = f"cell {cell[0]} of {built.folder / f'{kernel.name}.ipynb'}" if cell else "its session"
    return f"{kernel.name} failed in {where}: {said} (log: {kept}); mend it and push again"
