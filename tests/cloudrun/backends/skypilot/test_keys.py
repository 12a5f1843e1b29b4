"""The user's cloud keys on a rented machine: planted in a home folder, looked for in what SkyPilot would send."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from pathlib import Path
from typing import Any

import pytest

from cloudrun.backends.skypilot.keys import CAN_WITHHOLD, removal, settings_for
from cloudrun.job.keys import KeysSent
from tests.support.shell import Shell
from tests.support.sky_accounts import SkyAccounts

# SkyPilot's own optimizer and server take seconds a test.
pytestmark = pytest.mark.slow

PLANTED = {
    ".aws/credentials": "[default]\naws_access_key_id = CANARY\naws_secret_access_key = CANARY\n",
    ".config/gcloud/application_default_credentials.json": '{"type": "authorized_user", "client_id": "CANARY"}',
    ".config/gcloud/credentials.db": "CANARY",
    ".azure/msal_token_cache.json": "CANARY",
    ".azure/config": "[CANARY]",
    ".lambda_cloud/lambda_keys": "api_key = CANARY\n",
    ".runpod/config.toml": '[default]\napi_key = "CANARY"\n',
    ".config/vastai/vast_api_key": "CANARY\n",
    ".nebius/NEBIUS_IAM_TOKEN.txt": "CANARY\n",
    ".kube/config": "apiVersion: v1\nkind: Config\nusers: []\nclusters: []\ncontexts: []\n",
    ".prime/config.json": '{"api_key": "CANARY"}',
    ".cloudflare/r2.credentials": "[r2]\naws_access_key_id = CANARY\n",
    ".cloudflare/accountid": "CANARY",
}
# For these SkyPilot 0.14.1 has no setting that holds them back.
FREE = {
    "~/.lambda_cloud/lambda_keys",
    "~/.runpod/config.toml",
    "~/.prime/config.json",
    "~/.cloudflare/r2.credentials",
    "~/.cloudflare/accountid",
}


@pytest.fixture(scope="module")
def accounts(tmp_path_factory: pytest.TempPathFactory) -> SkyAccounts:
    accounts = SkyAccounts(tmp_path_factory.mktemp("accounts") / "home")
    for path, content in PLANTED.items():
        accounts.plant(path, content)
    accounts.enable("runpod", "aws", "gcp", "vast", "lambda")
    return accounts


@pytest.fixture(scope="module")
def launches(accounts: SkyAccounts) -> dict[str, dict[str, Any]]:
    wanted = [["runpod", "runpod"], ["lambda", "lambda/us-east-1"], ["vast", "vast"], ["runpod", None]]
    said: dict[str, dict[str, Any]] = accounts.python(
        "keys_sent_by_skypilot", json.dumps(wanted), json.dumps(list(PLANTED))
    )
    return said


@pytest.mark.parametrize(
    ("launch", "own"),
    [
        ("runpod of runpod", "~/.runpod/config.toml"),
        ("lambda of lambda/us-east-1", "~/.lambda_cloud/lambda_keys"),
        ("vast of vast", "~/.config/vastai/vast_api_key"),
    ],
)
def test_a_machine_gets_its_own_clouds_key_and_those_that_nothing_holds_back(
    launches: dict[str, dict[str, Any]], launch: str, own: str
) -> None:
    assert set(launches[launch]["sent"]) == FREE | {own}


def test_a_job_that_leaves_the_cloud_open_sends_no_key_of_clouds_that_need_none(
    launches: dict[str, dict[str, Any]],
) -> None:
    sent = set(launches["runpod of None"]["sent"])
    assert sent == FREE | {"~/.config/vastai/vast_api_key"}  # the machine may come to be at Vast


def test_what_is_told_before_renting_is_what_skypilot_sends(launches: dict[str, dict[str, Any]]) -> None:
    for launch in launches.values():
        assert sorted(launch["needed"] + launch["along"]) == launch["sent"]
    assert launches["runpod of runpod"]["needed"] == ["~/.runpod/config.toml"]


def test_the_user_reads_which_keys_go_before_agreeing(accounts: SkyAccounts, shell: Shell) -> None:
    shell.env = accounts.env
    job = shell.job("name: p\ndata: {source: 'demo://leaves'}\ngpu: RTX4090\ninfra: runpod\n")
    done = shell("launch", "--dry-run", job)
    assert "keys     ~/.runpod/config.toml goes to the machine: by this key it ends itself" in done.out
    assert "~/.lambda_cloud/lambda_keys" in done.out
    assert "~/.aws/credentials" not in done.out


def test_the_users_own_settings_of_a_cloud_that_is_rented_stay() -> None:
    theirs = {"aws": {"remote_identity": "my-role"}, "vast": {"datacenter_only": False}}
    settings = settings_for({"aws", "vast"}, theirs)
    assert "aws" not in settings
    assert "vast" not in settings
    assert settings_for({"runpod"}, theirs)["aws"] == {"remote_identity": "NO_UPLOAD"}


def test_every_cloud_is_held_back_where_it_can_be() -> None:
    assert settings_for({"runpod"}, {}) == {
        **{cloud: {"remote_identity": "NO_UPLOAD"} for cloud in CAN_WITHHOLD},
        "vast": {"remote_identity": "NO_UPLOAD", "datacenter_only": True},
    }


def test_what_came_along_is_removed_and_nothing_else(tmp_path: Path) -> None:
    sent = tmp_path / ".sky" / ".runtime_files"  # from where SkyPilot copies files to their places
    sent.mkdir(parents=True)
    for path in ("a b/key's", ".runpod/config.toml", "kept"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(f"CANARY of {path}")
        (sent / str(uuid.uuid4())).write_text(f"CANARY of {path}")
    (sent / "wheel").mkdir()
    (tmp_path / "outside").write_text("")
    script = removal(["~/a b/key's", "~/.lambda_cloud/absent", str(tmp_path / "outside"), "~/.runpod/config.toml"])
    subprocess.run(["sh", "-c", script], check=True, env={**os.environ, "HOME": str(tmp_path)})
    left = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert [path.name for path in left if path.parent != sent] == ["kept", "outside"]
    assert [path.read_text() for path in left if path.parent == sent] == ["CANARY of kept"]


def test_a_cluster_account_keeps_its_files() -> None:
    keys = KeysSent(along=("~/.runpod/config.toml",), are_removed=False)
    assert keys.lines() == ["the machine needs no key of yours", "SkyPilot sends ~/.runpod/config.toml along"]
