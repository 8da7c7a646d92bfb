"""`fintune-kit kaggle push`: runs the chain of kernels, and starts only the sessions that are needed.

    look (decide) -> push -> wait (waiting) -> judge the end (judge) -> push again, or the next kernel

The same command can be given again at any time. It waits for a session that runs, skips a kernel that is done, and
continues from a checkpoint. After a push, a temporary fault of Kaggle does not end the command.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fintune_kit.errors import UserError
from fintune_kit.kaggle.calls.client import Kaggle, Status
from fintune_kit.kaggle.calls.door import UnreachableError
from fintune_kit.kaggle.calls.replies import PushReply, find_push_fault, has_no_free_session
from fintune_kit.kaggle.decide import Decision, Input, decide, find_input
from fintune_kit.kaggle.delivery import Delivery
from fintune_kit.kaggle.history import Version
from fintune_kit.kaggle.judge import require_progress
from fintune_kit.kaggle.kernels import WHEEL_FOLDER, build_kernels
from fintune_kit.kaggle.manifest import Chain, Kernel
from fintune_kit.kaggle.waiting import (
    MINUTES_BETWEEN_LINES,
    POLL_SECONDS,
    ask_patiently,
    output_of,
    wait_for,
    wait_for_dataset,
)

MAX_SESSIONS = 12
"""Sessions of one kernel in one command."""
MAX_MINUTES_WITHOUT_A_FREE_SESSION = 13 * 60
"""No session lasts longer, so each of them has ended by then."""
MINUTES_UNTIL_A_PUSH_IS_LOST = 3
MAX_LOST_PUSHES = 3


@dataclass(frozen=True, kw_only=True)
class PushOptions:
    """How a chain is pushed."""

    out: Path
    """The folder for the build folders, and for the logs of failed runs."""
    delivery: Delivery
    wait: bool = False
    """Wait until each kernel is done, then push the next."""
    until_done: bool = False
    """If a kernel is stopped by a limit, push it again until it is done. This waits, too."""
    fresh: bool = False
    """Run each kernel from the start, even if it is done or has a checkpoint."""
    force_accelerator: bool = False
    say: Callable[[str], None] = print
    sleep: Callable[[float], None] = time.sleep

    @property
    def waits(self) -> bool:
        """Whether the command lasts until the kernels are done."""
        return self.wait or self.until_done


def push_chain(kaggle: Kaggle, chain: Chain, kernels: Sequence[Kernel], *, options: PushOptions) -> None:
    """Checks all kernels and their inputs, then runs the kernels one after the other.

    Raises:
        UserError: a kernel has a fault or lacks an input (then nothing is sent), or a push or a run failed.
    """
    build_kernels(
        chain, kernels, out=options.out, delivery=options.delivery, force_accelerator=options.force_accelerator
    )
    push = _Push(kaggle, chain, options)
    push.find_inputs(kernels)
    if not options.waits:
        push.require_finished_inputs(kernels)
    for kernel in kernels:
        push.complete(kernel)


class _Push:
    """One command, with the inputs that it has found or made so far."""

    def __init__(self, kaggle: Kaggle, chain: Chain, options: PushOptions) -> None:
        self._kaggle, self._chain, self._options = kaggle, chain, options
        self._inputs: dict[str, Input] = {}
        self._wheel_is_published = False

    def find_inputs(self, kernels: Sequence[Kernel]) -> None:
        """Finds the outputs of kernels outside this command. Kaggle would silently attach an older output."""
        named = {kernel.name for kernel in kernels}
        for name in dict.fromkeys(name for kernel in kernels for name in kernel.after if name not in named):
            self._inputs[name] = self._find_input(self._chain.kernel(name))

    def _find_input(self, kernel: Kernel) -> Input:
        found = find_input(self._kaggle, kernel)
        if found is None and self._options.waits:
            self._say(kernel, "is running, and others read it: waiting for it")
            info = self._kaggle.info(kernel.ref)
            assert info is not None
            self._wait(kernel, info.version)
            found = find_input(self._kaggle, kernel)
        if found is None:
            raise UserError(
                f"{kernel.name} is running; expected it finished: wait until it ends (`fintune-kit kaggle status`), or "
                f"add --wait"
            )
        if found.source != kernel.ref:
            self._say(kernel, f"version {found.version.number} is read, because no newer one is finished")
        return found

    def require_finished_inputs(self, kernels: Sequence[Kernel]) -> None:
        """Refuses a kernel that reads an unfinished one of this command, because nobody waits for that one."""
        unfinished: set[str] = set()
        for kernel in kernels:
            if read := unfinished & set(kernel.after):
                raise UserError(
                    f"{kernel.name} reads the output of {', '.join(sorted(read))}, which would not be finished; add "
                    f"--wait, or push them one after the other"
                )
            decision = self._decide(kernel)
            if decision.finished is None:
                unfinished.add(kernel.name)
            else:
                self._inputs[kernel.name] = decision.finished

    def complete(self, kernel: Kernel) -> None:
        """Waits for a kernel or pushes it, as often as the options say."""
        decision = self._decide(kernel)
        if decision.because:
            self._say(kernel, f"{decision.because}{self._hint(decision)}")
        if decision.finished is not None:
            self._inputs[kernel.name] = decision.finished
            return
        running, checkpoint = decision.running, decision.checkpoint
        if running and not self._options.waits:
            return
        for _ in range(MAX_SESSIONS):
            number = running or self._push(kernel, checkpoint)
            if not self._options.waits:
                return
            status, ended = self._wait(kernel, number)
            if ended.is_finished:
                self._inputs[kernel.name] = Input(version=ended, source=kernel.ref)
                self._say(kernel, f"done, version {number} wrote {', '.join(kernel.writes)}")
                return
            require_progress(
                self._kaggle,
                ended,
                status,
                before=checkpoint,
                until_done=self._options.until_done,
                logs=self._options.out,
                say=self._options.say,
            )
            running, checkpoint = 0, ended
        raise UserError(f"{kernel.name} is not done after {MAX_SESSIONS} sessions; look at its log before it goes on")

    def _decide(self, kernel: Kernel) -> Decision:
        inputs = [self._inputs[name].version for name in kernel.after if name in self._inputs]
        return decide(self._kaggle, kernel, inputs=inputs, fresh=self._options.fresh)

    def _hint(self, decision: Decision) -> str:
        if decision.action == "wait":
            return ": waiting for it" if self._options.waits else "; --wait waits for it"
        return "; --fresh runs it again" if decision.action == "nothing" else ""

    def _push(self, kernel: Kernel, checkpoint: Version | None) -> int:
        """Builds a kernel and pushes it, and returns the number of the new version."""
        if self._options.delivery.dataset and not self._wheel_is_published:
            self._publish_wheel(self._options.delivery.dataset)
        sources = [self._inputs[name].source for name in kernel.after] + ([checkpoint.source] if checkpoint else [])
        (built,) = build_kernels(
            self._chain,
            [kernel],
            out=self._options.out,
            delivery=self._options.delivery,
            sources={kernel.name: sources},
            force_accelerator=self._options.force_accelerator,
        )
        reply = self._send(kernel, built.folder)
        if fault := find_push_fault(reply, ref=kernel.ref, any_machine=self._options.force_accelerator):
            raise UserError(f"{kernel.name}: {fault}")
        self._say(kernel, f"pushed as version {reply.version}, {reply.url}")
        return reply.version

    def _send(self, kernel: Kernel, folder: Path) -> PushReply:
        """Sends a kernel exactly once. With --wait it first waits for a free session of the account."""
        before = self._kaggle.info(kernel.ref)
        lost = 0
        for minute in range(MAX_MINUTES_WITHOUT_A_FREE_SESSION):
            try:
                reply = self._kaggle.push(folder)
            except UnreachableError:
                if found := self._find_pushed(kernel, newer_than=before.version if before else 0):
                    return found
                lost += 1
                if lost == MAX_LOST_PUSHES or not self._options.waits:
                    raise
                continue
            if not (self._options.waits and has_no_free_session(reply.error)):
                return reply
            if minute % MINUTES_BETWEEN_LINES == 0:
                self._say(kernel, f"waiting for a free session ({reply.error})")
            self._options.sleep(POLL_SECONDS)
        return reply

    def _find_pushed(self, kernel: Kernel, *, newer_than: int) -> PushReply | None:
        """The version of a push whose answer was lost; None if no new version appears within minutes."""
        for _ in range(MINUTES_UNTIL_A_PUSH_IS_LOST):
            self._options.sleep(POLL_SECONDS)
            info = ask_patiently(lambda: self._kaggle.info(kernel.ref), pause=self._pause)
            if info is not None and info.version > newer_than:
                return PushReply(version=info.version, ref=kernel.ref, url=f"kaggle.com/code/{kernel.ref}")
        return None

    def _wait(self, kernel: Kernel, number: int) -> tuple[Status, Version]:
        """Waits until a session has ended, and returns its status and its output."""
        try:
            status = wait_for(self._kaggle, kernel, version=number, say=self._options.say, sleep=self._options.sleep)
            return status, output_of(self._kaggle, kernel, version=number, pause=self._pause)
        except KeyboardInterrupt:
            self._say(
                kernel,
                f"version {number} still runs at Kaggle; the same command waits for it again, and "
                f"kaggle.com/code/{kernel.ref} can cancel it",
            )
            raise
        except UserError as error:
            raise UserError(
                f"{kernel.name}: {error} (version {number} may still run at Kaggle; the same command waits for it "
                f"again)"
            ) from error

    def _publish_wheel(self, ref: str) -> None:
        """Uploads the wheel and waits until it can be attached."""
        self._kaggle.publish_dataset(self._options.out / WHEEL_FOLDER, ref)
        wait_for_dataset(self._kaggle, ref, sleep=self._options.sleep)
        self._options.say(f"{ref}: {self._options.delivery.name} is ready")
        self._wheel_is_published = True

    def _pause(self, error: UserError | None = None) -> None:
        self._options.sleep(POLL_SECONDS)

    def _say(self, kernel: Kernel, text: str) -> None:
        self._options.say(f"{kernel.name}: {text}")
