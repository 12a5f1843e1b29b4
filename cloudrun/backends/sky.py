"""Machines rented through SkyPilot, which is imported (seconds) only when it is used, and only in this folder.

Every answer that decides about money is asked of the provider (`refresh=FORCE`), not of a cache.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote as quote_word
from typing import Any

from cloudrun.backends import Offer, Say
from cloudrun.backends.listing import CannotList, NoListing, list_machines, listed_for
from cloudrun.backends.listing import end_machine as end_listed
from cloudrun.backends.sky_choice import best_resources, gpus_in_order, offered_for
from cloudrun.backends.sky_errors import CatalogUnreachable, brief, is_of_catalog, no_machine, still_billing, translated
from cloudrun.backends.sky_keys import keys_sent, remove_keys, sparing
from cloudrun.backends.sky_narrator import Narrator
from cloudrun.backends.sky_offers import is_a_gpu, offer_of
from cloudrun.backends.sky_records import known_machine, price_source, quote_of
from cloudrun.backends.sky_task import job_config, machine_config
from cloudrun.endings import has_autodown
from cloudrun.errors import NoMachine, StoreError
from cloudrun.keys import KeysSent
from cloudrun.machines import Machine, Scan
from cloudrun.plan import WEIGHTS, Plan
from cloudrun.run import MACHINE_PREFIX, JobState, Quote, Run, SkyAccount, now_utc
from cloudrun.ssh import Connection
from cloudrun.units import times
from cloudrun.worker.order import Order, secrets_path
from cloudrun.worker.wire import PEM

# A provider may list a machine for some time after it was ended.
_GONE_WAIT_S = 60.0


class SkyBackend:
    """Implements `Backend` over SkyPilot's SDK."""

    def __init__(self, home: Path) -> None:
        self._log_folder = home / "sky"
        self._accelerators: dict[str, float] = {}

    def quote(self, plan: Plan) -> Quote | None:
        """The optimizer's first choice. None where SkyPilot's API server is elsewhere: it alone knows the clouds."""
        with self._sdk(plan.run_id), sparing(plan):
            from sky.exceptions import ResourcesUnavailableError
            from sky.server.common import is_api_server_local

            if not is_api_server_local():
                return None
            try:
                best = best_resources(plan, gpus_in_order(plan))
            except ResourcesUnavailableError as err:
                raise no_machine(err, plan, offered_for(plan)) from err
            except Exception as err:
                raise no_machine(err, plan) from err
            return quote_of(best, nodes=plan.spec.nodes)

    def keys_sent(self, plan: Plan, quote: Quote | None) -> KeysSent | None:
        """None where only renting can tell the cloud."""
        if quote is None:
            return None
        with self._sdk(plan.run_id), sparing(plan):
            return keys_sent(quote.infra)

    def offers(self, plan: Plan, say: Say) -> list[Offer]:
        """Every GPU of every enabled cloud, from SkyPilot's catalogs."""
        with self._sdk("offers") as sky:
            from sky import catalog, check
            from sky.clouds.cloud import CloudCapability
            from sky.server.common import is_api_server_local

            if not is_api_server_local():
                raise NoMachine(
                    "SkyPilot's API server is on another machine, which alone knows the enabled clouds",
                    hint="`sky gpus list` asks it",
                )
            try:
                clouds = check.get_cached_enabled_clouds_or_refresh(
                    CloudCapability.COMPUTE, raise_if_no_cloud_access=True
                )
            except sky.exceptions.NoCloudAccessError as err:
                raise no_machine(err, plan) from err
            offers = []
            for cloud in sorted(str(one).lower() for one in clouds):
                if not has_autodown(cloud) and plan.spec.infra is None:
                    say(f"{cloud} is left out: a machine there cannot end itself; `infra: {cloud}` takes it anyway")
                    continue
                if plan.spec.nodes > 1 and not _rents_several(sky, cloud):
                    say(f"{cloud} is left out: it rents no machines that reach each other")
                    continue
                try:
                    listed = catalog.list_accelerators(
                        gpus_only=True, clouds=cloud, all_regions="/" in (plan.spec.infra or "")
                    )
                except Exception as err:  # noqa: BLE001 - one cloud's catalog must not hide the others'
                    say(
                        CatalogUnreachable(err).message
                        if is_of_catalog(err)
                        else f"{cloud} cannot be listed: {brief(err)}"
                    )
                    continue
                source, as_of = price_source(cloud)
                infos = [info for infos in listed.values() for info in infos]
                offers += [offer_of(info, source, as_of, nodes=plan.spec.nodes) for info in infos if is_a_gpu(info)]
        return offers

    def identity(self) -> str | None:
        """SkyPilot's user and server: what one of them does not know, another may be paying for."""
        with self._sdk("identity"):
            from sky.server.common import get_server_url
            from sky.utils.common_utils import get_user_hash

            return f"{get_user_hash()}@{get_server_url()}"

    def rent(self, plan: Plan, say: Say) -> Quote:
        """Rent the bare machine with autodown. Nothing is left where it fails."""
        minutes = plan.spec.lifecycle.idle_minutes
        autodown = has_autodown(plan.spec.infra)
        say(f"renting {plan.machine_name} ...")
        request = None
        with self._sdk(plan.run_id) as sky, sparing(plan):
            from sky.server.common import is_api_server_local
            from sky.skylet.autostop_lib import AutostopWaitFor

            try:
                gpus = gpus_in_order(plan) if is_api_server_local() else None
                request = sky.launch(
                    sky.Task.from_yaml_config(machine_config(plan, gpus)),
                    cluster_name=plan.machine_name,
                    idle_minutes_to_autostop=minutes if autodown else None,
                    wait_for=AutostopWaitFor.JOBS if autodown else None,  # not an open shell: it would keep the bill up
                    down=autodown,
                )
                _, handle = sky.stream_and_get(request, output_stream=Narrator(say, sys.stdout))
            except KeyboardInterrupt:
                if request is not None:
                    sky.get(sky.api_cancel(request))  # else the server goes on renting
                raise
            except Exception as err:
                self._end(sky, plan.machine_name)
                raise no_machine(err, plan) from err
            quote = quote_of(handle.launched_resources, nodes=handle.launched_nodes)
            self._accelerators = dict(handle.launched_resources.accelerators or {})
            sent = keys_sent(quote.infra)
        remove_keys(sent, plan.machine_name, nodes=plan.spec.nodes)
        what = times(quote.nodes, f"{quote.machine}{f', {quote.gpu}' if quote.gpu else ''}")
        say(f"machine is up: {what}, {quote.infra}/{quote.region}, ${quote.hourly_usd:.4f} an hour")
        return quote

    def start(self, plan: Plan, staged: Path, order: Order) -> str:
        connection = Connection(plan.machine_name)
        _, output = connection.run('mkdir -p "$HOME/cloudrun" && cd "$HOME/cloudrun" && pwd -P')
        run_dir = f"{output.decode().strip()}/{plan.run_id}"
        connection.rsync(f"{staged}/", f"{plan.machine_name}:{run_dir}/")
        secrets = {name: os.environ[name] for name in plan.spec.secrets}
        if secrets:  # into the machine's memory: SkyPilot's own way keeps them in its database of requests
            script = f"umask 077; cat > {quote_word(secrets_path(plan.run_id))}"
            connection.run(script, content=json.dumps(secrets).encode())
        if plan.spec.nodes > 1:
            _send_to_nodes(plan, staged, run_dir, order)
        late = order.at(time.time())  # what was sent took its time, which is billed
        connection.run(f"cat > {quote_word(run_dir)}/order.json", content=late.as_json().encode())
        with self._sdk(plan.run_id) as sky:
            try:
                task = sky.Task.from_yaml_config(job_config(plan, run_dir, self._accelerators))
                sky.get(sky.exec(task, cluster_name=plan.machine_name))
            except Exception as err:
                raise translated(err) from err
        return f"node://{plan.machine_name}{run_dir}"

    def observe(self, run: Run) -> JobState:
        with self._sdk(run.run_id) as sky:
            try:
                record = _record(sky, run.machine_name)
                if record is None:
                    return JobState.ABSENT if self._is_surely_gone(sky, run) else JobState.UNKNOWN
                if record.status is not sky.ClusterStatus.UP:
                    return JobState.UNKNOWN if record.status is sky.ClusterStatus.INIT else JobState.IDLE
                rows = sky.get(sky.queue(run.machine_name, skip_finished=True))
            except Exception:  # noqa: BLE001 - a check that failed says nothing about the job
                return JobState.UNKNOWN
        return JobState.ACTIVE if rows else JobState.IDLE

    def diagnose(self, run: Run) -> str:
        """The last line of SkyPilot's own log of the job: why the worker did not even start."""
        try:
            _, output = Connection(run.machine_name).run(
                "tail -qn 1 ~/sky_logs/*/run.log ~/.sky_clusters/*/sky_logs/*/run.log 2>/dev/null | tail -n 1"
            )
        except StoreError:
            return ""
        return output.decode("utf-8", "replace").strip()

    def release(self, run: Run) -> None:
        """End the machine and ask its provider until it is gone. Raises StillBilling where that cannot be shown."""
        if run.run_uri is not None:
            self._wipe(run)
        with self._sdk(run.run_id) as sky:
            self._end(sky, run.machine_name)
        listed = listed_for(run)
        for machine in listed or []:
            self.end_machine(machine)
        if listed:
            return  # the provider had it, and has it no more
        with self._sdk(run.run_id) as sky:
            try:
                is_gone = self._is_surely_gone(sky, run)
            except Exception as err:
                raise still_billing(run.machine_name, brief(err)) from err
        if not is_gone:
            raise still_billing(
                run.machine_name,
                f"nobody who knows it could be asked (SkyPilot {run.rented_by} rented it, this is {self.identity()})",
            )

    def _is_surely_gone(self, sky: Any, run: Run) -> bool:
        """SkyPilot has no record of it: because it saw it go, or because it never knew it?"""
        if _launches(sky, run.machine_name):
            return False  # asked for, and not there yet
        listed = listed_for(run)
        if listed or run.rented_by != self.identity():
            return False  # there it is; or it is another SkyPilot's, and perhaps in another account
        if listed is not None or run.quote is None:
            return True
        return any(row["name"] == run.machine_name for row in sky.get(sky.cost_report(days=None)))

    def account(self, run: Run) -> SkyAccount | None:
        """`sky cost-report` for the run's machine, of the launch that was last."""
        with self._sdk(run.run_id) as sky:
            try:
                rows = [row for row in sky.get(sky.cost_report(days=None)) if row["name"] == run.machine_name]
            except Exception:  # noqa: BLE001 - a report that cannot be had is not a bill that goes on
                return None
        if not rows:
            return None
        row = max(rows, key=lambda one: one["launched_at"] or 0)
        began = [start for start, _ in row["usage_intervals"] or ()]
        ended = [end for _, end in row["usage_intervals"] or () if end is not None]
        return SkyAccount(
            seconds=float(row["duration"]),
            usd=float(row["total_cost"]),
            began_at=datetime.fromtimestamp(min(began), UTC) if began else None,
            ended_at=datetime.fromtimestamp(max(ended), UTC) if ended else None,
        )

    def scan(self) -> Scan:
        """What SkyPilot knows, made fresh, and what the enabled clouds list themselves, found by name."""
        if not (Path.home() / ".sky").is_dir():  # looking would set it up, and start its server
            return Scan(at=now_utc())
        unasked: list[str] = []
        unlistable: list[str] = []
        with self._sdk("scan") as sky:
            try:
                fresh = _fresh_records(sky)
                clouds = sorted(str(name).lower() for name in sky.get(sky.client.sdk.enabled_clouds()))
            except Exception as err:
                raise translated(err) from err
            machines = [known_machine(row) for row in fresh]
            # Some clouds add `-head` to it.
            on_cloud = tuple(row.handle.cluster_name_on_cloud for row in fresh if row.handle is not None)
            for cloud in clouds:
                try:
                    listed = list_machines(cloud)
                except NoListing:
                    unlistable.append(cloud)
                    continue
                except CannotList as err:
                    unasked.append(f"{cloud}: {err}")
                    continue
                machines += [machine for machine in listed if not machine.name.startswith(on_cloud)]
        return Scan(at=now_utc(), machines=tuple(machines), unasked=tuple(unasked), unlistable=tuple(unlistable))

    def end_machine(self, machine: Machine) -> None:
        """Through SkyPilot where it knows the machine, else through its provider; then look again."""
        try:
            if machine.known_to_sky:
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
        """Remove the run's folder: on a cluster with a shared home it would outlive the machine."""
        assert run.run_uri is not None
        folder = run.run_uri.removeprefix(f"node://{run.machine_name}")
        try:
            Connection(run.machine_name).run(f"rm -rf '{folder}' '{folder}'.[0-9]*", timeout_s=30)
        except StoreError:
            return  # a machine that does not answer is ended all the same

    def _end(self, sky: Any, machine: str) -> None:
        """Cancel, `down`, then look: SkyPilot's word that it asked is not the provider's that it is gone.

        A launch that was only just submitted knows no cluster yet: `down` alone would find nothing, and
        the server would go on renting.
        """
        from sky.exceptions import ClusterDoesNotExist

        try:
            launches = _launches(sky, machine)
            if launches:
                sky.get(sky.api_cancel(launches))
            with suppress(ClusterDoesNotExist):
                sky.get(sky.down(machine))
            record = _record(sky, machine)
        except Exception as err:
            raise still_billing(machine, brief(err)) from err
        if record is not None:
            raise still_billing(machine, f"it is still listed as {record.status.value}")

    @contextmanager
    def _sdk(self, run_id: str) -> Iterator[Any]:
        """`sky`, with all that it prints on stdout going to a log: stdout is for our answers.

        The descriptor itself is redirected, since SkyPilot's loggers keep the stream that they found.
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


def _send_to_nodes(plan: Plan, staged: Path, run_dir: str, order: Order) -> None:
    """The code to all other machines, and to each the certificate by which they know each other.

    What is large they get from the first machine, which is nearer.
    """
    from cloudrun.backends.node_certificate import make_certificate

    certificate = make_certificate(plan.run_id)
    place = quote_word(run_dir)

    def send(node: int) -> None:
        connection = Connection(plan.machine_name, node=node)
        connection.run(f"mkdir -p {place} && umask 077 && cat > {place}/{PEM}", content=certificate)
        if node > 0:
            kept_back = [f"--exclude=/{name}" for name in (WEIGHTS, "out", "log.txt")]
            connection.rsync(*kept_back, f"{staged}/", f"{connection.host}:{run_dir}/")
            connection.run(f"cat > {place}/order.json", content=order.at(time.time()).as_json().encode())

    with ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(send, range(plan.spec.nodes)))


def _rents_several(sky: Any, cloud: str) -> bool:
    from sky.clouds.cloud import CloudImplementationFeatures
    from sky.utils.registry import CLOUD_REGISTRY

    try:
        CLOUD_REGISTRY.from_str(cloud).check_features_are_supported(
            sky.Resources(), {CloudImplementationFeatures.MULTI_NODE}
        )
    except sky.exceptions.NotSupportedError:
        return False
    return True


def _launches(sky: Any, machine: str) -> list[str]:
    """Requests to rent it that SkyPilot's server still works on."""
    return [request.request_id for request in sky.api_status(cluster_name=machine) if "launch" in request.name]


def _record(sky: Any, machine: str) -> Any:
    """The provider's word on one machine; None where there is none."""
    records = sky.get(sky.status([machine], refresh=sky.StatusRefreshMode.FORCE))
    return records[0] if records else None


def _fresh_records(sky: Any) -> list[Any]:
    """SkyPilot's records of machines of ours, each asked of its provider."""
    names = [row.name for row in sky.get(sky.status(all_users=True)) if row.name.startswith(MACHINE_PREFIX)]
    return list(sky.get(sky.status(names, refresh=sky.StatusRefreshMode.FORCE))) if names else []
