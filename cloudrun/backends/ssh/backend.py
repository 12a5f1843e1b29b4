"""Run jobs on a machine that its user can log in to, by its address. Nothing is rented, and nothing needs root.

The machine was there before and stays afterwards, unless the job file says what ends it (`end`). So a run takes a
folder of its own and the GPUs that it was given, and its release removes the folder.
"""

from __future__ import annotations

import json
import os
import shlex
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from shlex import quote as quote_word

from cloudrun.backends import Offer, Say, Terms
from cloudrun.backends.ssh.choice import chosen_gpus, ending_advice, folder_of, other_model, refuse_unfit
from cloudrun.backends.ssh.leaving import CLEAR, LIVES, stops_answering
from cloudrun.backends.ssh.probe import PROBE, Gpu, Probed, understood
from cloudrun.backends.within_budget import rsync_within
from cloudrun.catalog.addresses import parse_address
from cloudrun.catalog.infras import CAPABILITIES
from cloudrun.errors import NoMachine, StillBilling, StoreError
from cloudrun.job.notify import for_the_machine
from cloudrun.job.own_machine import LEAVE, end_command
from cloudrun.job.plan import Plan
from cloudrun.protocol.order import Order
from cloudrun.protocol.run_folder import CODE, ORDER, secrets_path
from cloudrun.protocol.run_folder import LEAVE as LEAVE_FILE
from cloudrun.protocol.words import WorkerCommand
from cloudrun.remote.entries import remove_entry, write_entry
from cloudrun.remote.ssh import Connection, MachineUnreachable
from cloudrun.state.machines import Machine, Scan
from cloudrun.state.records import BilledElsewhere, JobState, Quote, now_utc
from cloudrun.state.run import Run

_LIVES_CODE = 75
_LEAVES_WITHIN_S = 20.0
# A machine that shuts down answers for a while; a container of a rented GPU is gone within seconds.
_OFF_WITHIN_S = 120.0


class SshBackend:
    """Implements `Backend` on the machine that the job's `infra` names."""

    capabilities = CAPABILITIES["ssh"]

    def __init__(self) -> None:
        self._probed: dict[str, tuple[Probed, tuple[Gpu, ...]]] = {}  # machine -> what was seen of it by this command

    def quote(self, plan: Plan) -> Quote:
        """Return the machine as it is, at the job file's price. Raises NoMachine where it is not fit for the job."""
        self._enter(plan)
        try:
            probed, gpus = self._look(plan)
        finally:
            remove_entry(plan.machine_name)
        price = plan.spec.price
        memory = f", {probed.memory_gb:.0f} GB" if probed.memory_gb else ""
        return Quote(
            machine=f"{probed.user}@{probed.name} ({probed.cores or '?'} cores{memory})",
            infra=plan.spec.infra or "",
            region=None,
            gpu=f"{gpus[0].model}:{len(gpus)}" if gpus else None,
            spot=False,
            hourly_usd=price.hourly_usd if price is not None else 0.0,
            source=price.source if price is not None else "a machine of your own, without a `price`",
            as_of=now_utc(),
            cpus=probed.cores,
            is_billed=price is not None,
        )

    def keys_sent(self, plan: Plan, quote: Quote | None) -> None:
        """Return None: the machine gets no cloud key."""

    def offers(self, plan: Plan, say: Say) -> list[Offer]:
        quote = self.quote(plan)
        probed, gpus = self._probed[plan.machine_name]
        return [
            Offer(
                infra=quote.infra,
                region=None,
                machine=quote.machine,
                gpu=quote.gpu,
                memory_gb=round(gpus[0].total_mib / 1024) if gpus else None,
                cpus=quote.cpus,
                host_memory_gb=probed.memory_gb,
                hourly_usd=quote.hourly_usd,
                spot_usd=None,
                source=quote.source,
                as_of=quote.as_of,
            )
        ]

    def identity(self) -> str | None:
        return None

    def rent(self, plan: Plan, say: Say, terms: Terms) -> Quote:
        """Look at the machine once more, which is there already, and say what the user should know of it."""
        quote = self.quote(plan)
        self._enter(plan)
        probed, gpus = self._probed[plan.machine_name]
        for text in (other_model(plan.spec, gpus), ending_advice(plan.spec, probed)):
            if text:
                say(text)
        if gpus:
            say(f"GPU {', '.join(str(gpu.index) for gpu in gpus)} of {len(probed.gpus)} on {quote.machine}")
        return quote

    def start(self, plan: Plan, staged: Path, order: Order) -> str:
        """Send the staged files, the secrets and the order, and start the watchdog, which outlives the connection.

        Raises BudgetUsed, NoMachine, StoreError.
        """
        self._enter(plan)
        connection = Connection(plan.machine_name)
        probed, gpus = self._probed.get(plan.machine_name) or self._look(plan)
        assert probed.python is not None, "refuse_unfit has looked"
        folder = folder_of(plan.spec, probed)
        run_dir = f"{folder}/{plan.run_id}"
        _must(connection, f"mkdir -p {quote_word(run_dir)} && chmod 700 {quote_word(folder)}", f"make {run_dir}")
        rsync_within(connection, order, f"{staged}/", connection.at(f"{run_dir}/"))
        secrets = {name: os.environ[name] for name in plan.spec.secrets} | for_the_machine(plan.spec.notify)
        if secrets:
            script = f"umask 077; cat > {quote_word(secrets_path(plan.run_id))}"
            _must(connection, script, "keep the secrets in memory", content=json.dumps(secrets).encode())
        order = replace(order.at(time.time()), env={**_places(folder, gpus), **order.env})
        script = f"umask 077; cat > {quote_word(f'{run_dir}/{ORDER}')}"
        _must(connection, script, "write the order", content=order.as_json().encode())
        _must(connection, _start_script(run_dir, probed.python), "start the watchdog")
        return f"node://{plan.machine_name}{run_dir}"

    def observe(self, run: Run) -> JobState:
        """Return ACTIVE while the run's watchdog lives, else IDLE; ABSENT where its folder is gone.

        UNKNOWN where the machine does not answer: it may be off, or the network away.
        """
        folder = _folder_of(run)
        if folder is None:
            return JobState.ABSENT
        try:
            code, _ = Connection(run.machine_name).run(LIVES.format(folder=quote_word(folder), code=_LIVES_CODE))
        except StoreError:
            return JobState.UNKNOWN
        return {_LIVES_CODE: JobState.ACTIVE, 0: JobState.IDLE}.get(code, JobState.ABSENT)

    def ended_at(self, run: Run) -> datetime | None:
        return None

    def diagnose(self, run: Run) -> str:
        """Return the last line that the watchdog wrote to its standard error; empty where there is none."""
        folder = _folder_of(run)
        if folder is None:
            return ""
        try:
            _, output = Connection(run.machine_name).run(f"tail -n 1 {quote_word(folder)}/watchdog.err 2>/dev/null")
        except StoreError:
            return ""
        return output.decode("utf-8", "replace").strip()[-500:]

    def release(self, run: Run) -> datetime:
        """End the run's processes, remove its folder, and end the machine where the job file says how.

        Raises StillBilling where the machine does not answer, or does not end.
        """
        command = end_command(str(run.job.get("end", LEAVE)))
        folder = _folder_of(run)
        if folder is None and not _has_entry(run):
            return now_utc()  # nothing was started there
        connection = Connection(run.machine_name)
        try:
            if folder is not None:
                connection.run(f"touch {quote_word(folder)}/{LEAVE_FILE} 2>/dev/null; true")
                script = CLEAR.format(
                    folder=quote_word(folder),
                    code=_LIVES_CODE,
                    seconds=int(_LEAVES_WITHIN_S),
                    secrets=secrets_path(run.run_id),
                )
                code, output = connection.run(script, timeout_s=_LEAVES_WITHIN_S + 60)
                if code != 0:
                    said = output.decode("utf-8", "replace").strip().splitlines()
                    raise StillBilling(
                        f"the processes of `{run.run_id}` on {run.infra} did not end: {said[-1] if said else code}",
                        hint=f"`cloudrun ssh {run.run_id}` opens a shell there; then try the same command again",
                    )
            if command is not None:
                connection.run(f"nohup sh -c {quote_word(f'sleep 1; {command}')} </dev/null >/dev/null 2>&1 &")
        except MachineUnreachable as err:
            if command is None or not _may_be_off(run):
                raise _not_proven(run, err) from err
        if command is not None and not stops_answering(connection, within_s=_OFF_WITHIN_S):
            raise StillBilling(
                f"the machine of `{run.run_id}` still answers {_OFF_WITHIN_S:.0f} s after `{run.job.get('end')}`",
                hint=f"does that command end it? `cloudrun ssh {run.run_id}` opens a shell there, to see what it says",
            )
        connection.close()
        remove_entry(run.machine_name)
        return now_utc()

    def billed_elsewhere(self, run: Run) -> BilledElsewhere | None:
        return None

    def scan(self) -> Scan:
        """Return a scan without machines: nobody lists those of the user's own."""
        return Scan(at=now_utc())

    def end_machine(self, machine: Machine) -> None:
        raise ValueError(f"{machine.name} is not a machine that cloudrun rented")

    def _enter(self, plan: Plan) -> None:
        write_entry(plan.machine_name, parse_address(plan.spec.infra or ""), plan.spec.ssh_key)

    def _look(self, plan: Plan) -> tuple[Probed, tuple[Gpu, ...]]:
        """Ask the machine what it is. Raises NoMachine where it does not answer, or is not fit for the job."""
        python, host = plan.spec.machine.python, parse_address(plan.spec.infra or "").host
        script = PROBE if python is None else f"CLOUDRUN_PYTHON={quote_word(python)}\n{PROBE}"
        try:
            _, output = Connection(plan.machine_name).run(script, timeout_s=60)
        except StoreError as err:
            raise NoMachine(err.message, hint=err.hint) from err
        probed = understood(output, host=host)
        if python is not None:
            probed = replace(probed, python=python.replace("~", probed.home, 1) if python.startswith("~/") else python)
        refuse_unfit(probed, host=host)
        self._probed[plan.machine_name] = probed, chosen_gpus(plan.spec, probed, host=host)
        return self._probed[plan.machine_name]


def _must(connection: Connection, script: str, what: str, *, content: bytes | None = None) -> None:
    """Run a script on the machine. Raises StoreError where it fails."""
    code, output = connection.run(f"{{ {script}\n}} 2>&1", content=content)
    if code != 0:
        said = output.decode("utf-8", "replace").strip().splitlines()
        raise StoreError(
            f"`{connection.host}` could not {what}: {said[-1] if said else f'exit code {code}'}",
            hint="is its disk full, or the folder not yours? `--set machine.folder=/another/place` takes another one",
        )


def _places(folder: str, gpus: tuple[Gpu, ...]) -> dict[str, str]:
    """Return environment variables that keep downloads beside the run, where there is room, and the run on its GPUs."""
    caches = f"{folder}/cache"
    places = {"UV_CACHE_DIR": f"{caches}/uv", "HF_HOME": f"{caches}/huggingface", "TORCH_HOME": f"{caches}/torch"}
    if gpus:
        places["CUDA_VISIBLE_DEVICES"] = ",".join(str(gpu.index) for gpu in gpus)
    return places


def _start_script(run_dir: str, python: str) -> str:
    """Return the script that starts the watchdog in a session of its own: it goes on when the connection ends."""
    words = shlex.join([python, "-m", "cloudrun.worker", run_dir, WorkerCommand.BEGIN.value])
    beside = shlex.quote(str(Path(python).parent))
    code = quote_word(f"{run_dir}/{CODE}")
    return f'cd {quote_word(run_dir)} && PATH={beside}:"$PATH" PYTHONPATH={code} {words} </dev/null'


def _folder_of(run: Run) -> str | None:
    return None if run.run_uri is None else run.run_uri.removeprefix(f"node://{run.machine_name}")


def _has_entry(run: Run) -> bool:
    try:
        return bool(Connection(run.machine_name).host)
    except StoreError:
        return False


def _may_be_off(run: Run) -> bool:
    """Return whether the watchdog has, by what is known, ended the machine: all is home, or its hours are over."""
    if run.home_complete:
        return True
    budget = run.job.get("budget") or {}
    hours = float(budget.get("max_hours", 0) or 0)
    return run.billed_from is not None and (now_utc() - run.billed_from).total_seconds() > hours * 3600


def _not_proven(run: Run, err: MachineUnreachable) -> StillBilling:
    return StillBilling(
        f"{err.message}; so nobody can tell what becomes of `{run.run_id}` there",
        hint=f"when it answers again: `cloudrun down {run.run_id}`; the machine's console tells whether it is on",
    )
