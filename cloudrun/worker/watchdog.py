"""The watchdog: starts the attempt, watches it and the budget, and ends the machine.

It is the parent of everything that runs for the job on the machine, started before set-up and before
the first byte of data. It needs neither the laptop nor the network, and on a cloud not the SkyPilot job either
(`holder.py`). If it is itself killed, its job saves and ends, and a second watchdog goes on where there is a holder
to start it: with the first one's count of what is billed, and never with a second job.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

from cloudrun.notices.channel import VARIABLE, from_text
from cloudrun.protocol.messages import Heartbeat, StopRequest
from cloudrun.protocol.order import Order
from cloudrun.protocol.outputs import MACHINE, METRICS, PROGRESS
from cloudrun.protocol.run_folder import Place, RunFolder, secrets_path
from cloudrun.protocol.timing import SAVE_PATIENCE_S, WATCHDOG_LOOKS_EVERY_S, WIPED_PATIENCE_S
from cloudrun.protocol.words import TRAIN_STEP, EndReason, JobExit, WorkerPhase
from cloudrun.worker.attempt_process import AttemptProcess
from cloudrun.worker.clock import Clock
from cloudrun.worker.ending import insist_on_the_end
from cloudrun.worker.head import Head
from cloudrun.worker.holder import has_holder
from cloudrun.worker.notice import Notice
from cloudrun.worker.notifier import Notifier
from cloudrun.worker.policy import Action, Detach, End, Kill, Observation, RecordCrash, Stop, Wait, decide
from cloudrun.worker.sky_runtime import IdleTimer
from cloudrun.worker.status_files import append_to_log, last_word, record_crash
from cloudrun.worker.upload import Upload

# A longer gap between two looks means that the computer was suspended, or that its clock was set.
_ASLEEP_S = 30.0
# Before this machine is ended, the last notices have this long: it bills meanwhile.
_NOTICES_BEFORE_THE_END_S = 2.0


class Watchdog:
    """One run's watchdog; other machines of the run find this one at `address`."""

    def __init__(self, place: Place, order: Order, *, address: str) -> None:
        self._dir = run_dir = place.run_dir
        self._files = RunFolder(run_dir)
        self._order = order
        self._clock = Clock(place.clock, order, order_path=self._files.order)
        self._signalled = False
        self._attempt: AttemptProcess | None = None
        self._address = address
        self._head: Head | None = None
        self._blind_since: float | None = None
        self._looked_at = self._awake_since = time.time()
        self._timer = IdleTimer(order, has_job=lambda: has_holder(place))
        self._notice = Notice(order.cloud if order.spot else "")
        self._upload = Upload(run_dir, order, python=order.python_in(run_dir))
        self._notifier: Notifier | None = None

    def work(self) -> int:
        """Watch until the machine is ended, or may be left; return the job's exit code."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._pass_on)
        secret_values = self._secrets()
        # Whom to notify is none of the job's business: it goes to no other process or machine.
        channels = secret_values.pop(VARIABLE, "") or os.environ.pop(VARIABLE, "")
        os.environ.update(secret_values)
        if self._clock.goes_on or AttemptProcess.is_at_work(self._dir):
            self._say("the watchdog was killed and is started again; its job is not")
            self._attempt = AttemptProcess.left_by_an_earlier_watchdog(self._dir)
        else:
            self._attempt = AttemptProcess.start(self._dir, billed_s=self._billed_s())
        self._clock.keep()
        self._notifier = Notifier(self._dir, self._order, from_text(channels), billed_s=self._billed_s)
        self._notifier.start()
        if self._order.nodes > 1:
            self._lead(secret_values)
        while self._goes_on():
            time.sleep(WATCHDOG_LOOKS_EVERY_S)
        self._attempt.finish()
        if self._head is not None:
            self._head.close() if self._signalled else self._head.dismiss()
        self._upload.end(enough=self._is_enough)
        self._notifier.end()
        self._timer.leave()
        Path(secrets_path(self._order.run_id)).unlink(missing_ok=True)
        result = last_word(self._dir)
        return JobExit.FAILED if result is None else result.exit_code

    def _secrets(self) -> dict[str, str]:
        """Read what the launch put into this machine's memory for the job.

        The file is removed at once. Where this watchdog may be killed and started again, the file is removed when the
        watchdog ends.
        """
        path = Path(secrets_path(self._order.run_id))
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            values = {}
        if not self._order.outlives_its_job:
            path.unlink(missing_ok=True)
        return {str(name): str(value) for name, value in values.items()}

    def _lead(self, secret_values: dict[str, str]) -> None:
        """Lead the run's other machines from here on. Asks the job to stop where this machine cannot listen to them."""
        head = Head(self._dir, self._order, address=self._address, secret_values=secret_values)
        try:
            head.start()
        except OSError as err:
            message = f"cannot listen for the other machines at {self._address}: {err}"
            StopRequest(EndReason.FAILED, message).write(self._files.stop)
            return
        self._head = head

    def _goes_on(self) -> bool:
        """Look once and act on what is seen; return whether to go on.

        A full disk must not end the watchdog: the next look tries again. Nor may a full disk keep the watchdog from
        ending the machine.
        """
        self._clock.keep()
        self._timer.tend()
        if self._notice.is_given and not self._signalled:
            self._say(f"{self._order.cloud} takes this machine back: saving what there is")
            self._pass_on()
        try:
            self._dir.stat()
            if self._head is not None:
                self._head.look()
            if not self._act(decide(self._order, self._look())):
                return False
            self._upload.tend()
        except OSError as err:
            with suppress(OSError):
                sys.stderr.write(f"cloudrun: the watchdog could not write: {err}\n")
            return self._goes_on_blind()
        self._blind_since = None
        return True

    def _goes_on_blind(self) -> bool:
        """Return whether to go on while the run's folder cannot be used: until the budget is used or the folder gone.

        A folder that is gone means that somebody is ending the machine, or was cut off while ending it. So this waits
        for a signal, or for `WIPED_PATIENCE_S` seconds, before it ends the machine itself.
        """
        now = time.monotonic()
        self._blind_since = self._blind_since or now
        has_waited = self._signalled or now - self._blind_since > WIPED_PATIENCE_S
        is_wiped = has_waited and not self._dir.exists()
        is_used = self._billed_s() >= self._order.limit_s() - self._order.end_lead_s
        if not is_wiped and not is_used:
            return True
        if is_wiped and self._attempt is not None:
            self._attempt.ask_to_stop()  # there is no folder left in which anybody could find what it saves
        if self._order.ends_machine:
            self._end_machine("its budget is used" if is_used else "its run's folder is gone")
        return False

    def _pass_on(self, *_: object) -> None:
        self._signalled = True
        if self._attempt is not None:
            self._attempt.ask_to_stop()

    def _billed_s(self) -> float:
        return self._clock.billed_s()

    def _look(self) -> Observation:
        now = time.time()
        if not 0 <= now - self._looked_at <= _ASLEEP_S:
            self._awake_since = now
        self._looked_at = now
        result = last_word(self._dir)
        beat = Heartbeat.read(self._files.status)
        phase = beat.phase if result is None and beat is not None else None
        assert self._attempt is not None
        return Observation(
            billed_s=self._billed_s(),
            attempt_lives=self._attempt.lives,
            is_left=_age(self._files.leave) is not None,
            is_signalled=self._signalled,
            stop_age_s=_age(self._files.stop),
            result_age_s=None if result is None else _age(self._files.result),
            has_output=result is None or _has_output(self._files.out),
            safe_age_s=_first(_age(self._files.home), _age(self._files.stored)),
            data_silence_s=self._silence(beat, self._files.data_beat) if phase is WorkerPhase.SYNC else None,
            step_silence_s=self._step_silence(beat) if phase is WorkerPhase.RUN else None,
        )

    def _silence(self, beat: Heartbeat | None, *files: Path) -> float:
        """Return the seconds since the latest of: the phase began, one of `files` changed, this computer awoke."""
        ages = [_age(path) for path in files]
        began = None if beat is None else beat.phase_began
        since_began = 0.0 if began is None else time.time() - began
        return min([since_began, self._looked_at - self._awake_since, *(age for age in ages if age is not None)])

    def _step_silence(self, beat: Heartbeat | None) -> float | None:
        progress = self._files.out / PROGRESS
        if not progress.exists() and self._order.command.name != TRAIN_STEP:
            return None
        return self._silence(beat, progress, self._files.out / METRICS)

    def _act(self, what: Action) -> bool:
        """Carry out the action; return whether to go on."""
        assert self._attempt is not None
        match what:
            case Wait():
                return True
            case Stop(reason, message):
                StopRequest(reason, message).write(self._files.stop)
                return True
            case Kill():
                self._say("the job does not stop: ending its processes")
                self._attempt.kill(patience_s=0)
                return True
            case RecordCrash():
                self._attempt.kill(patience_s=SAVE_PATIENCE_S)
                is_taken = self._signalled and self._order.may_be_taken_away
                reason = EndReason.PREEMPTED if is_taken else EndReason.FAILED
                record_crash(self._dir, self._attempt.crash_message, reason=reason)
                return True
            case End(why):
                if last_word(self._dir) is None:
                    self._attempt.kill(patience_s=0)
                    with suppress(OSError):  # a full disk
                        record_crash(
                            self._dir,
                            "it did not save in time",
                            reason=EndReason.BUDGET,
                            exit_code=JobExit.STOPPED_EARLY,
                        )
                self._end_machine(why)
                return False
            case Detach():
                return False

    def _is_enough(self) -> bool:
        """Return whether to stop waiting for the bucket.

        So it is where a new attempt begins, where all is home and the machine ends, and where no budget is left.
        """
        is_home = _age(self._files.home) is not None
        is_used = self._billed_s() >= self._order.limit_s()
        return _age(self._files.leave) is not None or (self._signalled and is_home) or is_used

    def _end_machine(self, why: str) -> None:
        """End the machine, and this process with it. Returns only once a signal says that somebody else ends it."""
        self._say(f"ending this machine: {why}")
        if self._notifier is not None:
            self._notifier.end(patience_s=_NOTICES_BEFORE_THE_END_S)
        self._timer.leave()
        insist_on_the_end(self._order, say=self._say, is_called_off=lambda: self._signalled)

    def _say(self, text: str) -> None:
        with suppress(OSError):  # a full disk
            append_to_log(self._dir, text)


def _has_output(out: Path) -> bool:
    return any(path.name not in (PROGRESS, MACHINE) for path in out.rglob("*") if path.is_file() or path.is_symlink())


def _age(path: Path) -> float | None:
    try:
        return max(time.time() - path.stat().st_mtime, 0.0)
    except FileNotFoundError:
        return None


def _first(*ages: float | None) -> float | None:
    return max((age for age in ages if age is not None), default=None)
