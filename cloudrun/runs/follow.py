"""Follow a run's log until its job ends; every byte is shown once, in order, whatever the connection does."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from datetime import datetime

from cloudrun.backends import Say
from cloudrun.catalog.infras import CAPABILITIES
from cloudrun.errors import CloudrunError, RunNotFinished, StoreError
from cloudrun.files.untrusted import LARGEST_DOCUMENT_BYTES, Unreadable
from cloudrun.protocol.run_folder import ANSWER, LOG, QUESTION
from cloudrun.protocol.words import NO, YES
from cloudrun.runs.console import Ask
from cloudrun.runs.context import Context
from cloudrun.runs.last_word import BadResult, read_progress, read_result
from cloudrun.runs.refresh import look, record
from cloudrun.runs.source import bucket_of, is_reachable, is_wiped
from cloudrun.state.received import question_from
from cloudrun.state.records import JobState
from cloudrun.state.run import Run
from cloudrun.stores import Store, open_store
from cloudrun.text.units import duration

# So many looks at the backend in a row must find the job gone before that is believed.
_LOOKS = 2
# Following ends with NoAnswer when neither the machine nor its provider has answered for so long.
_UNKNOWN_S = 15 * 60.0
# The most that is read of a log at once: gigabytes of new text must not fill this computer's memory.
_PIECE_BYTES = 16_000_000


class NoAnswer(CloudrunError):
    """Neither a machine nor its provider says what has become of a run."""


class LogReader:
    """Reads `log.txt` from the byte `offset` on, and yields whole lines as they come."""

    def __init__(self, store: Store, offset: int = 0) -> None:
        self._store = store
        self._offset = offset
        self._rest = b""

    def go_on_in(self, store: Store) -> None:
        """Go on reading from the same byte, in another store's copy of the log."""
        self._store = store

    def lines(self, *, last: bool = False) -> Iterator[str]:
        """Yield the lines that are new; with `last`, also a final line that has no line end. Raises StoreError."""
        is_all = False
        while not is_all:
            fresh = self._store.read(LOG, offset=self._offset, limit=_PIECE_BYTES) or b""
            is_all = len(fresh) < _PIECE_BYTES
            self._offset += len(fresh)
            *whole, self._rest = (self._rest + fresh).split(b"\n")
            for line in whole:
                yield line.decode("utf-8", "replace")
        if last and self._rest:
            yield self._rest.decode("utf-8", "replace")
            self._rest = b""


def follow(
    run: Run,
    context: Context,
    *,
    reader: LogReader,
    until: Callable[[], bool] = lambda: False,
    answers_questions: bool = False,
) -> Run:
    """Pass each new line of the log to the console until the job has ended (or `until` says so).

    With `answers_questions` the console is also asked the worker's questions; where nobody answers, the worker takes No
    after a minute. Returns the run's record then.
    """
    ask = context.console.ask if answers_questions else None
    lines = followed(run, context, reader=reader, until=until, ask=ask, say=context.say)
    return shown(lines, context.console.on_line)


def shown(lines: Generator[str, None, Run], on_line: Callable[[str], None]) -> Run:
    """Pass each line to `on_line`; return the run as it is when there are no more."""
    while True:
        try:
            line = next(lines)
        except StopIteration as end:
            run: Run = end.value
            return run
        on_line(line)


def followed(  # noqa: PLR0913 - each is a part of the follower, with a default
    run: Run,
    context: Context,
    *,
    reader: LogReader,
    until: Callable[[], bool] = lambda: False,
    ask: Ask | None = None,
    say: Say = lambda _: None,
) -> Generator[str, None, Run]:
    """Yield each new line of the log until the job has ended (or `until` says so); returns the run as it is then.

    `ask` gets the worker's questions; without it the worker takes No after a minute. `say` gets a line where a question
    cannot be read. Raises RunNotFinished where the run has no log on a machine yet, NoAnswer where for minutes nobody
    can say what has become of the machine.
    """
    if run.run_uri is None:
        raise RunNotFinished(
            f"`{run.run_id}` is {run.phase.value}: its machine has no log yet",
            hint=f"`cloudrun logs {run.run_id}` again in a minute; `cloudrun ps` shows what it costs",
        )
    store = open_store(run.run_uri)
    pause = CAPABILITIES[run.backend].log_pause_s
    watch = _Watch(run, context, store)
    questions = None if ask is None else _Questions(store, run.run_uri, ask, say)
    while not watch.ended() and not until():
        yield from _quietly(reader)
        if questions is not None:
            questions.answer()
        time.sleep(pause)
    bucket = bucket_of(watch.run)
    if bucket is not None and watch.run.phase.is_final and not is_reachable(watch.run):
        reader.go_on_in(bucket)  # the machine went away before all of its log was read
    yield from _quietly(reader, last=watch.run.phase.is_final)
    return watch.run


class _Questions:
    """Puts the worker's questions to the user who follows the run: `question.json` exists while the worker waits."""

    def __init__(self, store: Store, run_uri: str, ask: Ask, say: Say) -> None:
        self._store = store
        self._run_uri = run_uri
        self._ask = ask
        self._say = say
        self._has_complained = False

    def answer(self) -> None:
        try:
            content = self._store.read(QUESTION, limit=LARGEST_DOCUMENT_BYTES + 1)
            if content is None or self._store.read(ANSWER, limit=1) is not None:
                return
            asked = question_from(content)
            said = self._ask(asked.question, asked.wait_s)
            self._store.put(ANSWER, YES if said else NO)
        except StoreError:
            return  # the next look asks again; or the worker takes No by itself
        except Unreadable as err:
            if not self._has_complained:
                self._has_complained = True
                self._say(
                    f"{self._run_uri}/{QUESTION} cannot be read ({err}): the run goes on, and a question of its"
                    " worker that nobody answers counts as No after a minute"
                )


class _Watch:
    """Finds out when the job has ended; a single failed check is never taken for its end."""

    def __init__(self, run: Run, context: Context, store: Store) -> None:
        self.run = run
        self._context = context
        self._store = store
        self._heard_at = time.monotonic()
        self._heartbeat: datetime | None = None
        self._gone = 0
        self._is_bad = False
        self._recorded_at = 0.0
        self._unknown_since: float | None = None

    def ended(self) -> bool:
        try:
            result = read_result(self._store)
            progress = read_progress(self._store)
        except StoreError:
            result, progress = None, None
        if progress is not None:
            self._context.console.on_progress(progress)
        now = time.monotonic()
        self._is_bad = isinstance(result, BadResult)  # while the worker lives, it will write a better one
        if result is not None and not isinstance(result, BadResult):
            self.run = record(self.run, self._context, JobState.ACTIVE, progress, result)
            return True
        if progress is not None and progress.heartbeat_at != self._heartbeat:
            self._unknown_since = None
            self._heartbeat, self._heard_at, self._gone = progress.heartbeat_at, now, 0
            if now - self._recorded_at > 5:
                self.run = record(self.run, self._context, JobState.ACTIVE, progress, None)
                self._recorded_at = now
        if now - self._heard_at < CAPABILITIES[self.run.backend].silence_s:
            return False
        return self._silent(now)

    def _silent(self, now: float) -> bool:
        """Ask the backend where there was no heartbeat for a while; believe it once it has found the job gone twice.

        Returns whether the run has ended.
        """
        job = self._context.backend.observe(self.run)
        self._refuse_to_wait_for_ever(job, now)
        if job in (JobState.ACTIVE, JobState.UNKNOWN):
            self._heard_at = now
            # The bucket may know more; or the worker has gone, and the watchdog waits for the results to be fetched; or
            # the run's folder has been removed.
            is_odd = job is JobState.ACTIVE and is_wiped(self.run)
            if self._is_bad or is_odd or (job is JobState.UNKNOWN and self.run.store_uri is not None):
                self.run = look(self.run, self._context)
            return self.run.phase.is_final
        self._gone += 1
        if self._gone < _LOOKS:
            return False
        self.run = look(self.run, self._context)
        return self.run.phase.is_final

    def _refuse_to_wait_for_ever(self, job: JobState, now: float) -> None:
        """Raise NoAnswer after minutes in which nobody could say what has become of the machine."""
        if job is not JobState.UNKNOWN:
            self._unknown_since = None
            return
        self._unknown_since = now if self._unknown_since is None else self._unknown_since
        if now - self._unknown_since >= _UNKNOWN_S:
            run_id = self.run.run_id
            raise NoAnswer(
                f"neither the machine of `{run_id}` nor its provider has said anything of it for"
                f" {duration(now - self._unknown_since)}; it may still run, and bill",
                hint=f"`cloudrun ps --refresh` asks again, `cloudrun down {run_id}` ends its bill;"
                " the watchdog on it ends it when its budget is used",
            )


def _quietly(reader: LogReader, *, last: bool = False) -> Iterator[str]:
    """Yield new lines; where the connection drops, end without an error: the next call goes on from the same byte."""
    try:
        yield from reader.lines(last=last)
    except StoreError:
        return
