"""A rented machine without a cloud: see `slurm_cluster`."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sky import slurm_cluster
from tests.sky.slurm_cluster import ClusterUnavailable, SlurmCluster
from tests.support.shell import Shell, images


@pytest.fixture(scope="session")
def slurm() -> Iterator[SlurmCluster]:
    """A Slurm cluster with SkyPilot's API server, for the whole session; skips where this machine cannot hold one."""
    base = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))  # short: unix sockets live in it
    try:
        cluster = slurm_cluster.start(base)
    except ClusterUnavailable as err:
        base.rmdir()
        pytest.skip(f"no Slurm cluster here: {err}")
    # Another process tears down when its stdin closes, which the kernel does for us however pytest ends.
    undertaker = subprocess.Popen(
        [sys.executable, slurm_cluster.__file__, "down", "--base", str(base), "--when-stdin-closes"],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    yield cluster
    undertaker.communicate()
    assert undertaker.returncode == 0, f"the cluster at {base} did not end: run `slurm_cluster.py down --base {base}`"


@pytest.fixture(autouse=True)
def no_machine_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a failed test leaves allocated must not starve the next one."""
    yield
    if "slurm" in request.fixturenames:
        cluster: SlurmCluster = request.getfixturevalue("slurm")
        cluster.scancel()
        cluster.wait_until_free()


@pytest.fixture
def shell(slurm: SlurmCluster, tmp_path: Path) -> Iterator[Shell]:
    """A laptop whose SkyPilot knows the cluster."""
    shell = Shell(tmp_path)
    shell.env.update(slurm.env)
    images(tmp_path / "leaves")
    yield shell
    if (shell.home / "ledger").is_dir():
        shell("down", "--all", "--force", "--yes", timeout_s=300)
