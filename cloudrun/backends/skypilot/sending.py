"""Send what a machine needs before its watchdog works: code, weights, a checkpoint, the order.

Until then nothing on the machine knows the budget. So this computer watches the budget while it sends, and gives up in
time to end the machine. Where this computer goes away meanwhile, SkyPilot's idle timer runs out; it was armed when the
machine was rented.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shlex import quote as quote_word

from cloudrun.backends.skypilot.on_machine import kept_awake
from cloudrun.backends.within_budget import rsync_within
from cloudrun.job.plan import Plan
from cloudrun.protocol.order import Order
from cloudrun.protocol.run_folder import CERTIFICATE, LOG, ORDER, OUT, WEIGHTS
from cloudrun.remote.ssh import Connection


def send_staged(plan: Plan, staged: Path, run_dir: str, order: Order) -> None:
    """Send the staged folder to the first machine. Raises BudgetUsed where that would use up the budget."""
    connection = Connection(plan.machine_name)
    with kept_awake(connection):  # weights and checkpoints are large
        rsync_within(connection, order, f"{staged}/", connection.at(f"{run_dir}/"))


def send_to_nodes(plan: Plan, staged: Path, run_dir: str, order: Order) -> None:
    """Send the code to all other machines, and to each machine the certificate by which they know each other.

    The others get large files from the first machine, which is nearer. Raises BudgetUsed as `send_staged` does.
    """
    from cloudrun.backends.node_certificate import make_certificate

    certificate = make_certificate(plan.run_id)
    place = quote_word(run_dir)

    def send(node: int) -> None:
        connection = Connection(plan.machine_name, node=node)
        connection.run(f"mkdir -p {place} && umask 077 && cat > {place}/{CERTIFICATE}", content=certificate)
        if node > 0:
            kept_back = [f"--exclude=/{name}" for name in (WEIGHTS, OUT, LOG)]
            rsync_within(connection, order, *kept_back, f"{staged}/", connection.at(f"{run_dir}/"))
            connection.run(f"umask 077; cat > {place}/{ORDER}", content=order.at(time.time()).as_json().encode())

    with kept_awake(Connection(plan.machine_name)), ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(send, range(plan.spec.nodes)))
