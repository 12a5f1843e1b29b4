"""The user's cloud keys, planted on the laptop and looked for on a machine that was really rented."""

from __future__ import annotations

import secrets

import pytest

from tests.clouds.box import Box
from tests.clouds.jobs import ENDLESS, launch, on, wait_for
from tests.support.shell import Shell

pytestmark = [pytest.mark.clouds, pytest.mark.slow]

# A machine is made of this computer's own files: only a planted file that is found by its content proves a sending.
PLANTED = {
    ".lambda_cloud/lambda_keys": "api_key = {}\n",  # SkyPilot sends it wherever it goes, and cannot be told not to
    ".prime/config.json": '{{"api_key": "{}"}}',
    ".config/vastai/vast_api_key": "{}\n",
    ".config/gcloud/credentials.db": "{}",
    ".azure/msal_token_cache.json": "{}",
    ".nebius/NEBIUS_IAM_TOKEN.txt": "{}\n",
}
PLACES = ("/root", "/home", "/etc", "/dev/shm", "/var/tmp")


def test_no_key_of_another_cloud_is_on_the_machine_while_the_job_runs(shell: Shell, cloud: Box) -> None:
    canary = f"canary{secrets.token_hex(12)}"
    laptop = cloud.base / "client"
    for path, text in PLANTED.items():
        (laptop / path).parent.mkdir(parents=True, exist_ok=True)
        (laptop / path).write_text(text.format(canary))
    code, run_id, said = launch(shell, "-d", shell.job(on(cloud.cloud, ENDLESS)))
    assert code == 0, said
    assert "SkyPilot sends ~/.lambda_cloud/lambda_keys and ~/.prime/config.json along; cloudrun removes them" in said
    wait_for(lambda: "up\n" in shell("logs", "--no-follow").out, 120, "the job's first line")

    machine = cloud.machine_of(run_id)
    found = cloud.on_machine(machine, "grep", "-rlsF", canary, *PLACES)
    assert found.stdout == ""
    # An AWS instance ends itself by its role: not even the key of its own cloud is sent.
    own = cloud.on_machine(machine, "find", "/root", "/home", "-path", "*/.aws/credentials")
    assert own.stdout == ""
    sent = cloud.on_machine(machine, "sh", "-c", "find /root /home -type d -name .lambda_cloud")
    assert sent.stdout.strip(), "it did come, and was removed: else this test shows nothing"
    for path in PLANTED:
        (laptop / path).unlink()
