"""What of the user's own code is sent: by git's word where there is one, and never what looks like a secret."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from cloudrun.job.plan import make_plan
from cloudrun.job.spec import JobSpec
from cloudrun.job.staging import stage
from cloudrun.job.workdir import look_through, looks_secret
from tests.support.shell import Shell

SECRETS = (
    ".env", ".env.production", "prod.env", ".ssh/id_rsa", ".ssh/config", "id_ed25519", ".aws/credentials", ".netrc",
    "key.pem", "server.key", "kaggle.json", ".kaggle/kaggle.json", "secrets.yaml", ".streamlit/secrets.toml",
    "conf/credentials.json", "my-service-account.json", "hf_token", "Token.txt", ".git-credentials",
    ".runpod/config.toml",
)  # fmt: skip
CODE = (
    "train.py", "src/secret_sauce.py", "tokens.py", "src/token.py", "monkey.py", "environment.yaml", ".env.example",
    "keys.csv", "credentials.py", "README.md", "id_rsa_reader.py", "id_rsa.pub",
)  # fmt: skip


def plant(folder: Path, names: Sequence[str]) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("CANARY")
    return folder


def git(folder: Path, *words: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "protocol.file.allow=always"]
    subprocess.run(["git", *identity, "-C", str(folder), *words], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = plant(
        tmp_path / "code", ["train.py", "big/data.bin", "runs/old/last.pt", "removed.py", "venv/settings.py"]
    )
    (folder / ".gitignore").write_text("big/\n")
    git(folder, "init", "-q")
    git(folder, "add", ".gitignore", "train.py", "removed.py", "venv/settings.py")
    git(folder, "commit", "-qm", "code")
    (folder / "removed.py").unlink()
    plant(folder, ["new.py", "__pycache__/new.pyc"])
    return folder


@pytest.mark.parametrize("name", SECRETS)
def test_a_name_that_looks_like_a_secret_is_known(name: str) -> None:
    assert looks_secret(name)


@pytest.mark.parametrize("name", CODE)
def test_code_does_not_look_like_a_secret(name: str) -> None:
    assert not looks_secret(name)


def test_git_says_what_is_code(repository: Path) -> None:
    assert look_through(repository).sent == (".gitignore", "new.py", "train.py", "venv/settings.py")


def test_a_folder_inside_a_repository_is_seen_by_git_too(repository: Path) -> None:
    plant(repository, ["part/a.py", "part/ignored.log", "part/sub/b.py"])
    (repository / "part" / ".gitignore").write_text("*.log\n")
    assert look_through(repository / "part").sent == (".gitignore", "a.py", "sub/b.py")


def test_a_folder_that_git_ignores_as_a_whole_is_sent_as_without_git(repository: Path) -> None:
    assert look_through(repository / "big").sent == ("data.bin",)


def test_a_repository_within_a_repository_is_sent(repository: Path, tmp_path: Path) -> None:
    other = plant(tmp_path / "library", ["lib.py"])
    git(other, "init", "-q")
    git(other, "add", "lib.py")
    git(other, "commit", "-qm", "library")
    git(repository, "submodule", "add", "-q", str(other), "library")
    plant(repository, ["library/.env"])
    found = look_through(repository)
    assert "library/lib.py" in found.sent
    assert found.kept == ("library/.env",)


def test_without_git_all_goes_but_what_is_never_code(tmp_path: Path) -> None:
    folder = plant(tmp_path / "code", ["a.py", "sub/b.txt", "runs/r/last.pt", ".venv/lib.py", "__pycache__/a.pyc"])
    (folder / "link").symlink_to("a.py")
    (folder / "linked").symlink_to("sub")
    os.mkfifo(folder / "pipe")
    assert look_through(folder).sent == ("a.py", "link", "linked", "sub/b.txt")


@pytest.mark.parametrize("with_git", [True, False])
def test_no_secret_is_staged_tracked_or_not(tmp_path: Path, with_git: bool) -> None:
    folder = plant(tmp_path / "code", [*SECRETS, *CODE])
    if with_git:
        git(folder, "init", "-q")
        git(folder, "add", "-f", "train.py", *SECRETS[:6])
    staged = stage_of(folder, tmp_path)
    assert staged == sorted(CODE)


def test_a_secret_that_the_job_names_is_staged(tmp_path: Path) -> None:
    folder = plant(tmp_path / "code", ["train.py", ".env", "certs/ca.pem", "certs/own.key", "key.pem"])
    assert stage_of(folder, tmp_path, workdir_secrets=[".env", "certs"]) == [
        ".env", "certs/ca.pem", "certs/own.key", "train.py",
    ]  # fmt: skip


def stage_of(folder: Path, tmp_path: Path, **job: object) -> list[str]:
    fields = {"name": "p", "data": {"source": "demo://leaves"}, "run": "python train.py", "workdir": str(folder)}
    plan = make_plan(JobSpec.model_validate({**fields, **job}), "p-1", python="python", base={"setup": ""})
    stage(plan, tmp_path / "staged")
    sent = tmp_path / "staged" / "code" / "workdir"
    return sorted(path.relative_to(sent).as_posix() for path in sent.rglob("*") if path.is_file())


def test_the_user_is_told_what_stays_here_and_what_goes(shell: Shell) -> None:
    plant(shell.folder / "code", ["train.py", ".env", "key.pem"])
    job = "name: own\ninfra: local\ndata: {source: 'demo://leaves'}\nworkdir: code\nrun: 'true'\n"
    said = shell("check", shell.job(job)).err
    assert "warning: `workdir`: .env, key.pem may hold secrets and stay here" in said
    said = shell("check", shell.job(job + "workdir_secrets: [key.pem]\n")).err
    assert ".env may hold secrets and stays here" in said
    assert "key.pem may hold secrets and will be sent, as `workdir_secrets` says" in said


def test_secrets_of_no_folder_are_a_mistake(shell: Shell) -> None:
    done = shell("check", shell.job("name: own\ndata: {source: 'demo://leaves'}\nworkdir_secrets: [.env]\n"))
    assert done.code == 2
    assert "`workdir_secrets` names files of `workdir`, and there is none" in done.err
