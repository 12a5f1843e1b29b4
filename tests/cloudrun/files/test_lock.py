"""Locks as processes see one another's."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
from pathlib import Path

import pytest

from cloudrun.files import locks
from tests.support.checkout import CHECKOUT
from tests.support.processes import program


def test_a_lock_is_held_while_its_process_lives_and_no_longer(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not locks.is_held(path)
    words = program("hold_lock", path)
    with subprocess.Popen(words, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"ok\n"
        assert locks.is_held(path)
        assert locks.is_held(path)  # to ask does not take it
        assert locks.take(path) is None
        holder.kill()
    assert not locks.is_held(path)
    held = locks.take(path)
    assert held is not None
    os.close(held)


def test_those_that_share_a_lock_are_seen(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not locks.is_shared(path)
    with path.open() as one, path.open() as other:
        locks.share(one.fileno())
        locks.share(other.fileno())
        assert locks.is_shared(path)
    assert not locks.is_shared(path)


def test_a_disk_without_locks_keeps_no_run_from_starting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Lustre where it is mounted without `flock`, and NFS without a lock server."""

    def refuses(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuses)
    held = locks.take(tmp_path / "lock")
    assert held is not None
    assert not locks.is_held(tmp_path / "lock")
    os.close(held)
