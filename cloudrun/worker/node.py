"""Follow the head on one of a run's other machines; end this machine where the head is lost.

This machine prepares itself as the head does, with an attempt of its own in a folder beside the run's, which may lie on
a disk that all machines share. What its job writes stays here: the run's results are the head's.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

from cloudrun.protocol.messages import Begin, Result, StopRequest, replace_text
from cloudrun.protocol.nodes import SECRETS, TELL, Instruction, News
from cloudrun.protocol.order import Order
from cloudrun.protocol.run_folder import (
    CODE,
    DATA,
    DATA_SIGNS,
    LABELS,
    LEFT_BY_AN_ATTEMPT,
    TRAIN_CONFIG,
    WEIGHTS,
    Place,
    RunFolder,
)
from cloudrun.protocol.timing import NODE_BUDGET_PATIENCE_S, NODE_SILENCE_S, NODE_TELLS_EVERY_S, SAVE_PATIENCE_S
from cloudrun.protocol.words import EndReason, MachineEnding, NodeState, NodeTask
from cloudrun.retry import attempted
from cloudrun.worker.attempt_process import AttemptProcess
from cloudrun.worker.clock import Clock
from cloudrun.worker.ending import insist_on_the_end
from cloudrun.worker.status_files import append_to_log, last_word, record_crash
from cloudrun.worker.wire import Line, NotWhole

_LINES_BYTES = 64_000
# Files of an earlier attempt on this machine, to be removed. The signs of its data stay: the data have not changed.
_LAST_ATTEMPT = tuple(name for name in LEFT_BY_AN_ATTEMPT if name not in DATA_SIGNS)


Answer = TypeVar("Answer")


class Node:
    """Machine `rank` of the run, from 1; the head listens at `head`, on one of the order's ports."""

    def __init__(self, place: Place, order: Order, *, rank: int, head: str) -> None:
        self._run_dir = run_dir = place.run_dir
        self._order = order
        self._rank = rank
        self._head = head
        self._shared = RunFolder(run_dir)
        self._files = self._shared.of_node(rank)
        self._dir = self._files.root
        self._clock = Clock(place.clock, order, order_path=self._shared.order)
        self._attempt: AttemptProcess | None = None
        self._signalled = False
        self._shown = 0  # bytes of the log that the head has
        self._needs_data = False
        self._provider: threading.Thread | None = None

    def work(self) -> int:
        """Work until the head says that the run is over.

        Returns 0 then, so that SkyPilot does not end the head's job because of this machine; 1 where no head is found.
        """
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._pass_on)
        found = self._join()
        if found is None:
            return 1  # SkyPilot ends the job on all machines
        line, answer = found
        secret_values = _tried(lambda: line.tell(SECRETS, {}))
        os.environ.update({str(name): str(value) for name, value in secret_values.items()})
        shares = (self._run_dir / answer.mark).exists()
        if self._clock.goes_on or AttemptProcess.is_at_work(self._dir):
            self._attempt = AttemptProcess.left_by_an_earlier_watchdog(self._dir)
            self._shown = self._log_bytes()
        else:
            self._begin(line, answer, shares=shares)
        self._attend(line, shares=shares)
        self._attempt_process.finish()
        return 0

    def _begin(self, line: Line, answer: Instruction, *, shares: bool) -> None:
        """Start the attempt, in a folder of its own."""
        self._make_folder(shares=shares)
        if answer.has_weights and not shares:
            try:
                _tried(lambda: line.fetch(f"/{WEIGHTS}", self._shared.weights))
            except (OSError, NotWhole) as err:  # the request to stop ends the attempt, and the head is told why
                self._stop(EndReason.NO_DATA, f"the weights did not come from the head: {err}")
        self._attempt = AttemptProcess.start(self._dir, billed_s=self._billed_s())
        self._clock.keep()

    def _join(self) -> tuple[Line, Instruction] | None:
        """Return the line to the head and its first instruction; None where no head answers within `idle_s` seconds."""
        until = time.monotonic() + self._order.idle_s
        news = News(self._rank, NodeState.PREPARING).as_plain()
        failed: OSError | None = None
        while time.monotonic() < until and not self._signalled:
            for port in self._order.ports:
                line = Line(self._shared.certificate, self._head, port)
                try:
                    return line, Instruction.read(line.tell(TELL, news))
                except OSError as err:
                    failed = err
            time.sleep(NODE_TELLS_EVERY_S)
        sys.stderr.write(f"cloudrun: node {self._rank} cannot reach its head at {self._head}: {failed}\n")
        return None

    def _make_folder(self, *, shares: bool) -> None:
        self._dir.mkdir(exist_ok=True)
        for name in _LAST_ATTEMPT:
            (self._dir / name).unlink(missing_ok=True)
        self._shown = self._log_bytes()  # the head has the log of an earlier attempt
        for name in (CODE, TRAIN_CONFIG, LABELS):
            if (self._run_dir / name).exists() and not (self._dir / name).is_symlink():
                (self._dir / name).symlink_to(self._run_dir / name)
        # The results, their store and the end of the machine are the head's business.
        own = replace(
            self._order,
            ending=MachineEnding.NOBODY,
            has_timer=False,
            store_uri=None,
            may_ask=False,
            node_rank=self._rank,
        )
        if shares:
            own = replace(own, make_data=None, data_beside=False, data_arrives=True)
            if not self._files.data.is_symlink():
                self._files.data.symlink_to(self._shared.data)
        replace_text(self._files.order, own.as_json())
        self._needs_data = own.data_arrives

    def _attend(self, line: Line, *, shares: bool) -> None:
        heard_at = time.monotonic()
        while True:
            self._clock.keep()
            self._record_a_dead_attempt()
            try:
                answer = Instruction.read(line.tell(TELL, self._news().as_plain()))
                heard_at = time.monotonic()
                if not self._obey(answer, line, shares=shares):
                    return
            except OSError:
                silence_s = time.monotonic() - heard_at
                if silence_s > NODE_SILENCE_S:
                    self._stop(EndReason.STOPPED, f"the head has said nothing for {NODE_SILENCE_S / 60:g} minutes")
                if silence_s > max(self._order.idle_s, 2 * NODE_SILENCE_S):
                    self._end_machine("its head is lost")
            if self._billed_s() > self._order.limit_s() + NODE_BUDGET_PATIENCE_S:
                self._end_machine("its budget is used")
            if self._signalled and not self._attempt_lives():
                return
            time.sleep(NODE_TELLS_EVERY_S)

    def _obey(self, answer: Instruction, line: Line, *, shares: bool) -> bool:
        """Carry out the head's instruction; return whether to go on."""
        if answer.task is NodeTask.LEAVE:
            self._stop(EndReason.STOPPED, "the run is over")
            return False
        if answer.task is NodeTask.STOP:
            self._stop(EndReason.STOPPED, "the run stops")
        elif answer.task is NodeTask.BEGIN and not self._files.begin.exists():
            Begin(str(answer.head)).write(self._files.begin)
        if self._needs_data and answer.has_data and self._provider is None:
            self._provider = threading.Thread(target=self._provide, args=(line, shares), name="data", daemon=True)
            self._provider.start()
        return True

    def _provide(self, line: Line, shares: bool) -> None:
        """Fetch the data from the head, unless its disk is shared; then mark them as whole by `data.ready`."""
        try:
            if not shares and not self._files.data_ready.exists():
                began = time.monotonic()
                count = _tried(lambda: line.fetch(f"/{DATA}", self._files.data))
                append_to_log(self._dir, f"{count} files from the head in {time.monotonic() - began:.1f} s")
        except (OSError, NotWhole) as err:
            self._stop(EndReason.NO_DATA, f"the data did not come from the head: {err}")
            return
        self._files.data_ready.touch()

    def _news(self) -> News:
        result = Result.read(self._files.result)
        is_ready = self._files.ready.exists()
        state = NodeState.ENDED if result else NodeState.READY if is_ready else NodeState.PREPARING
        return News(self._rank, state, result, tuple(self._new_lines()))

    def _new_lines(self) -> list[str]:
        """Return the whole lines of the log that the head does not have yet."""
        try:
            with self._files.log.open("rb") as log:
                log.seek(self._shown)
                new = log.read(_LINES_BYTES)
        except FileNotFoundError:
            return []
        whole = new.rpartition(b"\n")[0] if b"\n" in new else new if len(new) == _LINES_BYTES else b""
        self._shown += len(whole) + (1 if b"\n" in new else 0)
        lines = whole.decode("utf-8", "replace").splitlines()
        return [line.removeprefix("cloudrun: ") for line in lines]

    def _stop(self, reason: EndReason, message: str) -> None:
        if not self._files.stop.exists():
            StopRequest(reason, message).write(self._files.stop)

    @property
    def _attempt_process(self) -> AttemptProcess:
        assert self._attempt is not None
        return self._attempt

    def _log_bytes(self) -> int:
        log = self._files.log
        return log.stat().st_size if log.exists() else 0

    def _record_a_dead_attempt(self) -> None:
        if self._attempt_process.lives or last_word(self._dir) is not None:
            return
        self._attempt_process.kill(patience_s=SAVE_PATIENCE_S)
        record_crash(self._dir, self._attempt_process.crash_message)

    def _end_machine(self, why: str) -> None:
        self._attempt_process.kill(patience_s=0)
        self._say(f"ending this machine: {why}")
        insist_on_the_end(self._order, say=self._say, is_called_off=lambda: self._signalled)

    def _say(self, text: str) -> None:
        with suppress(OSError):  # a full disk
            append_to_log(self._dir, text)

    def _pass_on(self, *_: object) -> None:
        self._signalled = True
        if self._attempt is not None:
            self._attempt.ask_to_stop()

    def _attempt_lives(self) -> bool:
        return self._attempt is not None and self._attempt.lives

    def _billed_s(self) -> float:
        return self._clock.billed_s()


def _tried(ask: Callable[[], Answer]) -> Answer:
    """Ask the head up to three times; return its answer. Raises the last time's OSError or NotWhole."""
    return attempted(ask, failing_by=(OSError, NotWhole), pauses_s=(NODE_TELLS_EVERY_S, NODE_TELLS_EVERY_S))
