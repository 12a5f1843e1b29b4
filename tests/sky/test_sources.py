"""A rented machine that gets its data by itself, with a token that reaches it through `secrets` alone."""

from __future__ import annotations

import pytest

from tests.sky.jobs import QUICK, launch
from tests.sky.slurm_cluster import SlurmCluster
from tests.support.archives import zip_of
from tests.support.kaggle import Kaggle
from tests.support.shell import Shell
from tests.support.web_server import WebServer

pytestmark = pytest.mark.sky


def test_a_rented_machine_fetches_from_kaggle_by_itself(shell: Shell, slurm: SlurmCluster) -> None:
    server = WebServer()
    Kaggle(server, zip_of(shell.folder / "leaves"))
    server.files["/storage/archive.zip?signed=1"] = server.files["/storage/archive.zip"]
    shell.env.update(KAGGLE_API_ENDPOINT=server.url, KAGGLE_USERNAME="ada", KAGGLE_KEY="key-of-ada")
    job = QUICK.replace("source: leaves", "source: kaggle://competitions/plants")
    job += f"env: {{KAGGLE_API_ENDPOINT: '{server.url}'}}\nsecrets: [KAGGLE_USERNAME, KAGGLE_KEY]\n"
    code, run_id, said = launch(shell, shell.job(job))
    server.close()
    assert code == 0, said
    assert "data: 6 files unpacked" in said
    assert "healthy\nrust\n" in said  # what its command lists
    assert "key-of-ada" not in said
    home = shell.folder / "runs" / run_id
    assert all("key-of-ada" not in path.read_text(errors="replace") for path in home.rglob("*") if path.is_file())
