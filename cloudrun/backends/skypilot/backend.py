"""Rent machines through SkyPilot. Importing `sky` takes seconds: only this folder does it, and only when needed.

Every answer that decides about money is asked of the provider (`refresh=FORCE`), not of a cache.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote as quote_word
from typing import Any

from cloudrun.backends import NotInTime, Offer, Say, Terms
from cloudrun.backends.patience import NoAnswerYet, within
from cloudrun.backends.skypilot import internals
from cloudrun.backends.skypilot.asking import accelerators_of, fresh_records, launches_of, record_of
from cloudrun.backends.skypilot.errors import (
    CatalogUnreachable,
    brief,
    is_of_catalog,
    no_machine,
    still_billing,
    translated,
)
from cloudrun.backends.skypilot.keys import keys_sent, remove_keys, sparing
from cloudrun.backends.skypilot.listing import (
    CannotList,
    NoListing,
    can_list,
    errors_look_empty,
    infra_of,
    list_machines,
    listed_for,
    machines_of,
    refuse_if_silent,
)
from cloudrun.backends.skypilot.listing import end_machine as end_listed
from cloudrun.backends.skypilot.listing import ended_at as listed_end
from cloudrun.backends.skypilot.offers import is_a_gpu, offer_of
from cloudrun.backends.skypilot.on_machine import data_on_their_way, watchdog_lives
from cloudrun.backends.skypilot.quote import quote_for, refuse_remote_server, request_for
from cloudrun.backends.skypilot.records import billed_hourly_usd, billed_quote, known_machine, price_source, quote_of
from cloudrun.backends.skypilot.sending import send_staged, send_to_nodes
from cloudrun.backends.skypilot.task import begin_script, job_config
from cloudrun.backends.skypilot.waiting import TookTooLong, Trying, Waiting
from cloudrun.billing.agreed import capped, is_price
from cloudrun.catalog.endings import has_autodown
from cloudrun.catalog.infras import CAPABILITIES
from cloudrun.errors import NoMachine, StoreError
from cloudrun.job.keys import KeysSent
from cloudrun.job.notify import for_the_machine
from cloudrun.job.plan import Plan
from cloudrun.protocol.order import Order
from cloudrun.protocol.run_folder import ORDER, Place, secrets_path
from cloudrun.remote.ssh import Connection
from cloudrun.retry import tries
from cloudrun.state.machines import Machine, Scan
from cloudrun.state.records import BilledElsewhere, JobState, Quote, now_utc
from cloudrun.state.run import MACHINE_PREFIX, Run
from cloudrun.text.units import duration, times

# A provider may list a machine for some time after it was ended.
_GONE_WAIT_S = 60.0
# By then the provider lists a machine whose create call was never answered.
_LOST_ANSWER_S = 30.0
_DOWN_PAUSES_S = (3.0, 10.0)
# A busy computer takes half a minute. Where a provider does not answer, SkyPilot itself goes on for far longer.
_DOWN_S = 120.0
# After a question that got no answer in time, the same machine is not asked about again for so long.
_SILENCE_S = 60.0


class SkyBackend:
    """Implements `Backend` over SkyPilot's SDK."""

    capabilities = CAPABILITIES["sky"]

    def __init__(self, home: Path) -> None:
        self._log_folder = home / "sky"
        self._accelerators: dict[str, float] | None = None  # GPUs of the rented machine; None: it was not rented here
        self._silent_until: dict[str, float] = {}  # machine -> until when it is not asked about, as no answer came
        self._cancelled: dict[str, str] = {}  # machine whose launch was cancelled half-way -> the cloud that it was on

    def quote(self, plan: Plan) -> Quote:
        """Return the optimizer's first choice. Raises NoMachine; UsageError where SkyPilot's server is elsewhere."""
        with self._sdk(plan.run_id) as sky, sparing(plan):
            refuse_remote_server()
            return quote_for(sky, plan)

    def keys_sent(self, plan: Plan, quote: Quote | None) -> KeysSent | None:
        """Return the user's cloud keys that a machine would get; None where only renting can tell the cloud."""
        if quote is None:
            return None
        with self._sdk(plan.run_id), sparing(plan):
            return keys_sent(quote.infra)

    def offers(self, plan: Plan, say: Say) -> list[Offer]:
        """Return an offer for every GPU of every enabled cloud, from SkyPilot's catalogs. Raises NoMachine."""
        with self._sdk("offers") as sky:
            if not internals.is_server_local():
                raise NoMachine(
                    "SkyPilot's API server is on another machine, which alone knows the enabled clouds",
                    hint="`sky gpus list` asks it",
                )
            try:
                clouds = internals.enabled_clouds(or_raise=True)
            except sky.exceptions.NoCloudAccessError as err:
                raise no_machine(err, plan) from err
            offers = []
            for cloud in sorted(clouds):
                if not has_autodown(cloud) and plan.spec.infra is None:
                    say(f"{cloud} is left out: a machine there cannot end itself; `infra: {cloud}` takes it anyway")
                    continue
                if plan.spec.nodes > 1 and not internals.rents_several(cloud):
                    say(f"{cloud} is left out: it rents no machines that reach each other")
                    continue
                try:
                    infos = internals.list_gpus(cloud, all_regions="/" in (plan.spec.infra or ""))
                except Exception as err:  # noqa: BLE001 - one cloud's catalog must not hide the others'
                    say(
                        CatalogUnreachable(err).message
                        if is_of_catalog(err)
                        else f"{cloud} cannot be listed: {brief(err)}"
                    )
                    continue
                source, as_of = price_source(cloud)
                offers += [offer_of(info, source, as_of, nodes=plan.spec.nodes) for info in infos if is_a_gpu(info)]
        return offers

    def identity(self) -> str | None:
        """Return SkyPilot's user and server: a machine that this pair does not know may be another pair's."""
        with self._sdk("identity"):
            return f"{internals.user_hash()}@{internals.server_url()}"

    def rent(self, plan: Plan, say: Say, terms: Terms) -> Quote:
        """Rent the bare machine with autodown; where that fails, end all that may have been rented.

        Raises NoMachine, NotInTime; StillBilling where the end of what was rented cannot be proven.
        """
        say(f"renting {plan.machine_name} ...")
        waiting = None
        with self._sdk(plan.run_id) as sky, sparing(plan):
            refuse_remote_server()
            try:
                waiting = Waiting(
                    sky, self._ask_for(sky, plan, terms), plan.machine_name, terms=terms, say=say, log=sys.stdout
                )
                handle = waiting.until_up()
            except KeyboardInterrupt:
                self._cancel(sky, plan.machine_name)  # without this, the server would go on renting
                raise
            except TookTooLong as late:
                self._end(sky, plan.machine_name)
                raise self._not_in_time(plan, terms, late.trying, say) from None
            except Exception as err:
                self._end(sky, plan.machine_name)
                self._end_what_looked_empty(plan, terms, waiting)
                raise no_machine(err, plan) from err
            finally:
                if waiting is not None:
                    waiting.leave()
            launched = internals.launched_of(handle)
            assert launched is not None, f"SkyPilot rented {plan.machine_name} and gave no handle of it"
            quote = quote_of(launched.resources, nodes=launched.nodes)
            self._accelerators = launched.accelerators
            sent = keys_sent(quote.infra)
            quote = self._at_its_own_price(plan, quote, terms, say)
        remove_keys(sent, plan.machine_name, nodes=plan.spec.nodes)
        what = times(quote.nodes, f"{quote.machine}{f', {quote.gpu}' if quote.gpu else ''}")
        say(f"machine is up: {what}, {quote.infra}/{quote.region}, ${quote.total_hourly_usd:.4f} an hour")
        return quote

    def _ask_for(self, sky: Any, plan: Plan, terms: Terms) -> Any:
        """Ask SkyPilot for the machine, which may not be dearer than agreed; return the id of the request."""
        autodown = has_autodown(plan.spec.infra)
        config = request_for(sky, plan)
        if terms.agreed is not None:
            config = capped(config, terms.agreed)
        return sky.launch(
            sky.Task.from_yaml_config(config),
            cluster_name=plan.machine_name,
            idle_minutes_to_autostop=plan.spec.lifecycle.idle_minutes if autodown else None,
            wait_for=internals.autostop_waits_for_jobs() if autodown else None,  # an open shell does not count as a job
            down=autodown,
        )

    def _at_its_own_price(self, plan: Plan, quote: Quote, terms: Terms, say: Say) -> Quote:
        """Return the quote at the price that the provider lists for the machine; unchanged where it lists none.

        Also passes the start that the provider lists to `terms.on_seen`. Ends the machine and raises NoMachine where
        neither the provider nor the catalog has a price.
        """
        try:
            machines = machines_of(plan.machine_name, quote.infra, region=quote.region)
        except CannotList as err:
            if not isinstance(err, NoListing):
                say(f"{quote.infra} does not say what it bills: {err}")
            machines = []
        known = [one.up_since for one in machines if one.up_since is not None]
        if known:
            terms.on_seen(min(known), billed_hourly_usd(machines, nodes=quote.nodes))
        quote = billed_quote(quote, machines)
        if not is_price(quote.infra, quote.hourly_usd):
            self.end_by_name(plan.machine_name)
            raise NoMachine(
                f"{quote.infra} rented {quote.machine} at an unknown price: no budget could be kept, so it was ended",
                hint="name another cloud with `--infra`, or another GPU",
            )
        return quote

    def _not_in_time(self, plan: Plan, terms: Terms, trying: Trying | None, say: Say) -> NotInTime:
        """End a machine that was rented though the answer was lost, and return the error to raise."""
        ended_at = now_utc()
        infra = trying.infra if trying is not None else terms.agreed.infra if terms.agreed is not None else ""
        say("it is ended; looking once more for what was rented without an answer ...")
        if self._end_late_comers(plan.machine_name, infra):
            ended_at = now_utc()
        gpu = trying.gpu if trying is not None else None
        place = "/".join(part for part in (trying.infra, trying.region) if part) if trying is not None else infra
        return NotInTime(
            f"no machine came within {duration(terms.within_s or 0.0)}: {gpu or 'a machine'}"
            f"{f' of {place}' if place else ''} was not ready; what was rented is ended",
            hint="wait longer (`--set budget.rent_minutes=30`), or name another GPU or cloud",
            gpu=gpu,
            ended_at=ended_at,
        )

    def _end_what_looked_empty(self, plan: Plan, terms: Terms, waiting: Waiting | None) -> None:
        """End machines that SkyPilot may have rented and does not see. Raises StillBilling where nobody can tell.

        SkyPilot takes an error of some providers for an account without machines (`errors_look_empty`).
        """
        tried = waiting.trying if waiting is not None else None
        infras = {terms.agreed.infra if terms.agreed is not None else "", tried.infra if tried is not None else ""}
        for infra in filter(errors_look_empty, infras):
            self._end_late_comers(plan.machine_name, infra, pauses_s=())

    def _end_late_comers(self, machine: str, infra: str, *, pauses_s: Sequence[float] = (_LOST_ANSWER_S,)) -> bool:
        """End the machines of this name that the provider lists; return whether there was any. Raises StillBilling.

        Looks once more after each of `pauses_s` seconds: a create call whose answer was lost leaves a machine that
        SkyPilot does not know, and that the provider lists only after a while.
        """
        found = False
        for _ in tries(pauses_s) if can_list(infra) else ():
            try:
                for late in machines_of(machine, infra):
                    found = True
                    self.end_machine(late)
            except CannotList as err:
                raise still_billing(machine, f"{infra} cannot be asked for it: {err}") from err
        return found

    def end_by_name(self, machine: str) -> None:
        """End the machine with this name through SkyPilot. Raises StillBilling."""
        with self._sdk(machine.removeprefix(MACHINE_PREFIX)) as sky:
            self._end(sky, machine)

    def start(self, plan: Plan, staged: Path, order: Order) -> str:
        """Send the staged files, the secrets and the order, and start the worker as a SkyPilot job; return its URI.

        Raises BudgetUsed, StoreError, SkyError.
        """
        connection = Connection(plan.machine_name)
        _, output = connection.run('mkdir -p "$HOME/cloudrun" && cd "$HOME/cloudrun" && pwd -P')
        run_dir = f"{output.decode().strip()}/{plan.run_id}"
        send_staged(plan, staged, run_dir, order)
        secrets = {name: os.environ[name] for name in plan.spec.secrets}
        secrets |= for_the_machine(plan.spec.notify)
        if secrets:  # into the machine's memory: SkyPilot's own way keeps them in its database of requests
            script = f"umask 077; cat > {quote_word(secrets_path(plan.run_id))}"
            connection.run(script, content=json.dumps(secrets).encode())
        if plan.spec.nodes > 1:
            send_to_nodes(plan, staged, run_dir, order)
        late = order.at(time.time())  # what was sent took its time, which is billed
        connection.run(f"umask 077; cat > {quote_word(run_dir)}/{ORDER}", content=late.as_json().encode())
        if order.outlives_its_job and plan.spec.nodes == 1:
            # Start the watchdog at once: Ray takes some seconds to start a job, and starts none where memory is full.
            # Where this start fails, the SkyPilot job starts the watchdog.
            with suppress(StoreError):
                connection.run(begin_script(run_dir))
        with self._sdk(plan.run_id) as sky, data_on_their_way(connection, run_dir):
            try:
                if self._accelerators is None:  # the machine was up before this command
                    self._accelerators = accelerators_of(sky, plan.machine_name)
                task = sky.Task.from_yaml_config(job_config(plan, run_dir, self._accelerators))
                sky.get(sky.exec(task, cluster_name=plan.machine_name))
            except Exception as err:
                raise translated(err) from err
        return f"node://{plan.machine_name}{run_dir}"

    def observe(self, run: Run) -> JobState:
        """Return the state of the run's machine and job, asked of SkyPilot and, where that cannot tell, the provider.

        ABSENT only where the machine is surely gone; ACTIVE while a SkyPilot job or the watchdog is at work.
        """
        if time.monotonic() < self._silent_until.get(run.machine_name, 0.0):
            return JobState.UNKNOWN
        with self._sdk(run.run_id) as sky:
            try:
                refuse_if_silent(infra_of(run))
                record = record_of(sky, run.machine_name)
                if record is None:
                    return JobState.ABSENT if self._is_surely_gone(sky, run) else JobState.UNKNOWN
                if record.status is sky.ClusterStatus.STOPPED:
                    return JobState.STOPPED
                if record.status is not sky.ClusterStatus.UP:
                    return self._by_its_provider(run)
                is_at_work = bool(sky.get(sky.queue(run.machine_name, skip_finished=True))) or _watchdog_lives(run)
            except NoAnswerYet:
                self._silent_until[run.machine_name] = time.monotonic() + _SILENCE_S
                return JobState.UNKNOWN
            except Exception:  # noqa: BLE001 - a check that failed says nothing about the job
                return self._by_its_provider(run)
        return JobState.ACTIVE if is_at_work else JobState.IDLE

    def _by_its_provider(self, run: Run) -> JobState:
        """Return STOPPED where the provider lists a stopped machine of the run, else UNKNOWN.

        For states that SkyPilot cannot tell: it knows neither RunPod's EXITED nor a cluster of which a part is left.
        """
        listed = listed_for(run)
        return JobState.STOPPED if listed and any(one.stopped for one in listed) else JobState.UNKNOWN

    def ended_at(self, run: Run) -> datetime | None:
        return listed_end(run)

    def diagnose(self, run: Run) -> str:
        """Return the last line of SkyPilot's own log of the job, which tells why the worker did not even start."""
        try:
            _, output = Connection(run.machine_name).run(
                f"tail -qn 1 {' '.join(internals.JOB_LOGS)} 2>/dev/null | tail -n 1"
            )
        except StoreError:
            return ""
        return output.decode("utf-8", "replace").strip()

    def release(self, run: Run) -> datetime:
        """End the machine, and return when it was gone, as SkyPilot and its provider show. Raises StillBilling else."""
        if run.run_uri is not None:
            self._wipe(run)
        with self._sdk(run.run_id) as sky:
            self._end(sky, run.machine_name)
        ended_at = now_utc()
        infra = self._cancelled.get(run.machine_name)
        if infra is not None and self._end_late_comers(run.machine_name, infra):
            ended_at = now_utc()
        listed = listed_for(run)
        for machine in listed or []:
            self.end_machine(machine)
        if listed:
            return now_utc()  # the provider listed the machine, and does not any more
        with self._sdk(run.run_id) as sky:
            try:
                is_gone = self._is_surely_gone(sky, run)
            except Exception as err:
                raise still_billing(run.machine_name, brief(err)) from err
        if not is_gone:
            raise still_billing(run.machine_name, self._why_unproven(run))
        return ended_at

    def _why_unproven(self, run: Run) -> str:
        identity = self.identity()
        if run.rented_by == identity:
            return f"{infra_of(run) or 'its provider'} gives no list of its machines"
        return f"nobody who knows it could be asked (SkyPilot {run.rented_by} rented it, this is {identity})"

    def _is_surely_gone(self, sky: Any, run: Run) -> bool:
        """Return whether a machine of which SkyPilot has no record is gone, and not just unknown to this SkyPilot."""
        if launches_of(sky, run.machine_name):
            return False  # the machine is asked for, and not up yet
        listed = listed_for(run)
        if listed or run.rented_by != self.identity():
            return False  # the provider lists it; or another SkyPilot rented it, perhaps in another account
        if listed is None and errors_look_empty(infra_of(run)):
            return False  # SkyPilot may have taken an error of the provider for the end of the machine
        if listed is not None or run.quote is None:
            return True
        return any(row["name"] == run.machine_name for row in sky.get(sky.cost_report(days=None)))

    def billed_elsewhere(self, run: Run) -> BilledElsewhere | None:
        """Return what `sky cost-report` says of the last launch of the run's machine; None where it says nothing."""
        with self._sdk(run.run_id) as sky:
            try:
                rows = [row for row in sky.get(sky.cost_report(days=None)) if row["name"] == run.machine_name]
            except Exception:  # noqa: BLE001 - without the report the bill has ended all the same
                return None
        if not rows:
            return None
        row = max(rows, key=lambda one: one["launched_at"] or 0)
        began = [start for start, _ in row["usage_intervals"] or ()]
        ended = [end for _, end in row["usage_intervals"] or () if end is not None]
        return BilledElsewhere(
            seconds=float(row["duration"]),
            usd=float(row["total_cost"]),
            began_at=datetime.fromtimestamp(min(began), UTC) if began else None,
            ended_at=datetime.fromtimestamp(max(ended), UTC) if ended else None,
        )

    def scan(self) -> Scan:
        """Return the machines that SkyPilot knows, and those that the enabled clouds themselves list, found by name.

        SkyPilot's records are made new by asking the providers. Raises SkyError where SkyPilot's server fails.
        """
        if not (Path.home() / ".sky").is_dir():  # asking would set SkyPilot up, and start its server
            return Scan(at=now_utc())
        unlistable: list[str] = []
        with self._sdk("scan") as sky:
            try:
                fresh, unasked = fresh_records(sky)
                clouds = sorted(str(name).lower() for name in sky.get(internals.request_enabled_clouds()))
            except Exception as err:
                raise translated(err) from err
            machines = [known_machine(row) for row in fresh]
            launched = [internals.launched_of(row.handle) for row in fresh]
            on_cloud = {one.name_on_cloud for one in launched if one is not None}
            for cloud in clouds:
                try:
                    listed = list_machines(cloud)
                except NoListing:
                    unlistable.append(cloud)
                    continue
                except CannotList as err:
                    unasked.append(f"{cloud}: {err}")
                    continue
                machines += [machine for machine in listed if machine.cluster not in on_cloud]
        return Scan(at=now_utc(), machines=tuple(machines), unasked=tuple(unasked), unlistable=tuple(unlistable))

    def end_machine(self, machine: Machine) -> None:
        """End a machine through SkyPilot where that knows it, else through its provider; then look whether it is gone.

        Raises StillBilling where the end cannot be proven.
        """
        try:
            if machine.is_known_here:
                with self._sdk(machine.run_id) as sky:
                    self._end(sky, machine.handle)
                return
            end_listed(machine)
            until = time.monotonic() + _GONE_WAIT_S
            while any(one.handle == machine.handle for one in list_machines(machine.infra)):
                if time.monotonic() > until:
                    raise still_billing(machine.name, f"{machine.infra} still lists it")
                time.sleep(1.0)
        except CannotList as err:
            raise still_billing(machine.name, str(err)) from err

    def _wipe(self, run: Run) -> None:
        """Remove the run's folder from the machine: on a cluster with a shared home it would outlive the machine."""
        assert run.run_uri is not None
        folder = run.run_uri.removeprefix(f"node://{run.machine_name}")
        try:
            Connection(run.machine_name).run(f"rm -rf {quote_word(folder)} {quote_word(folder)}.[0-9]*", timeout_s=30)
        except StoreError:
            return  # the machine is ended, even where it does not answer

    def _end(self, sky: Any, machine: str) -> None:
        """Cancel launches of the machine, end it, and ask its provider for it. Raises StillBilling where it is listed.

        A finished `down` shows only that SkyPilot asked, so its provider is asked whether the machine is gone. A launch
        that was only just submitted has no cluster yet: `down` alone would find nothing, and the server would go on
        renting. A `down` that fails is tried again: another command, or the launch that was cancelled, may have ended
        the same machine a moment before.
        """
        from sky.exceptions import ClusterDoesNotExist

        failed: Exception | None = None
        for _ in tries(_DOWN_PAUSES_S):
            try:
                self._cancel(sky, machine)
                with suppress(ClusterDoesNotExist):
                    within(_DOWN_S, lambda: sky.get(sky.down(machine)))
                record = record_of(sky, machine)
            except NoAnswerYet as err:
                raise still_billing(machine, f"its provider, or SkyPilot's server, gave {err}") from err
            except Exception as err:  # noqa: BLE001 - raised below where the last try fails, too
                failed = err
                continue
            if record is not None:
                raise still_billing(machine, f"it is still listed as {record.status.value}")
            return
        assert failed is not None
        raise still_billing(machine, brief(failed)) from failed

    def _cancel(self, sky: Any, machine: str) -> None:
        """Cancel the requests to rent the machine that SkyPilot's server still works on, and remember their cloud."""
        launches = launches_of(sky, machine)
        if launches:
            records = sky.get(sky.status([machine]))
            launched = internals.launched_of(records[0].handle) if records else None
            if launched is not None:
                self._cancelled[machine] = launched.infra
            sky.get(sky.api_cancel(launches))

    @contextmanager
    def _sdk(self, run_id: str) -> Iterator[Any]:
        """Yield the module `sky`, with its output on stdout sent to a log: stdout is for our answers.

        The file descriptor itself is redirected, since SkyPilot's loggers keep the stream that they found at first.
        """
        self._log_folder.mkdir(parents=True, exist_ok=True)
        sys.stdout.flush()
        kept = os.dup(1)
        log = os.open(self._log_folder / f"{run_id}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log, 1)
        os.close(log)
        try:
            import sky

            yield sky
        finally:
            sys.stdout.flush()
            os.dup2(kept, 1)
            os.close(kept)


def _watchdog_lives(run: Run) -> bool:
    """Return whether the run's watchdog is at work, though SkyPilot sees no job. Raises StoreError."""
    if run.run_uri is None:
        return False
    folder = run.run_uri.removeprefix(f"node://{run.machine_name}")
    return watchdog_lives(Connection(run.machine_name), Place(Path(folder)))
