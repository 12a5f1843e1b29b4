"""The git commit that a run is launched from."""

from __future__ import annotations

import subprocess
from pathlib import Path

from cloudrun.job.commit import commit_of
from tests.support.local_jobs import TINY
from tests.support.shell import Shell


def git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=n", "-c", "user.email=e@example.org", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def repository(folder: Path) -> str:
    """A repository with one commit; its hash."""
    folder.mkdir(exist_ok=True)
    git(folder, "init", "--quiet")
    (folder / "job.yaml").write_text("name: a\n")
    git(folder, "add", "job.yaml")
    git(folder, "commit", "--quiet", "--no-gpg-sign", "-m", "first")
    return git(folder, "rev-parse", "HEAD")


def test_a_folder_that_git_keeps_has_its_commit(tmp_path: Path) -> None:
    commit = repository(tmp_path)
    (tmp_path / "new.txt").write_text("not tracked")
    assert commit_of(tmp_path) == commit[:12]


def test_changed_files_are_told(tmp_path: Path) -> None:
    commit = repository(tmp_path)
    (tmp_path / "job.yaml").write_text("name: b\n")
    assert commit_of(tmp_path) == f"{commit[:12]} with changes"


def test_without_git_or_a_commit_there_is_none(tmp_path: Path) -> None:
    assert commit_of(tmp_path) is None
    assert commit_of(tmp_path / "not there") is None
    git(tmp_path, "init", "--quiet")
    assert commit_of(tmp_path) is None


def test_a_launch_records_it(tmp_path: Path) -> None:
    repository(tmp_path)
    shell = Shell(tmp_path)
    done = shell("launch", "--yes", shell.job(TINY))
    assert done.code == 0, done.err
    record = shell.home / "ledger" / f"{done.out.strip()}.json"
    assert " with changes" in record.read_text()
