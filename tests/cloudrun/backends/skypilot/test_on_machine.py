"""What a rented machine itself is asked, its shell being this computer's."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from cloudrun.backends.skypilot import on_machine
from cloudrun.backends.skypilot.on_machine import data_on_their_way, kept_awake, watchdog_lives
from cloudrun.errors import StoreError
from cloudrun.files import locks
from cloudrun.protocol.run_folder import Place
from cloudrun.remote.ssh import Connection


class Here(Connection):
    """A machine whose shell is one of this computer's, with SkyPilot's runtime in `folder`."""

    def __init__(self, folder: Path) -> None:
        super().__init__("cloudrun-here")
        self.folder = folder
        self.is_away = False
        self.asked = 0

    def run(self, script: str, *, content: bytes | None = None, timeout_s: float = 60.0) -> tuple[int, bytes]:
        self.asked += 1
        if self.is_away:
            raise StoreError("it does not answer", hint="")
        env = {**os.environ, "SKY_RUNTIME_DIR": str(self.folder)}
        done = subprocess.run(["sh", "-c", script], env=env, capture_output=True, timeout=timeout_s, check=False)
        return done.returncode, done.stdout


@pytest.fixture
def machine(tmp_path: Path) -> Here:
    return Here(tmp_path)


@pytest.mark.parametrize("folder", ["run", "a folder with 'words'"])
def test_a_watchdog_is_seen_by_its_lock_and_by_nothing_else(machine: Here, tmp_path: Path, folder: str) -> None:
    place = Place(tmp_path / folder)
    assert not watchdog_lives(machine, place)
    place.run_dir.mkdir()
    assert not watchdog_lives(machine, place)
    assert not place.lock.exists()  # asking makes no file
    held = locks.take(place.lock)
    assert held is not None
    assert watchdog_lives(machine, place)
    os.close(held)
    assert not watchdog_lives(machine, place)
    assert place.lock.exists()  # a file that was left, and that nobody holds


def test_a_machine_to_which_files_are_sent_is_kept_awake_and_no_longer(
    machine: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its idle timer runs from the rent, and would end it under an upload of ten minutes."""
    python = tmp_path / "skypilot-runtime" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\necho "$2" >> {tmp_path}/asked\n')
    python.chmod(0o755)
    monkeypatch.setattr(on_machine, "_REMIND_EVERY_S", 0.05)
    with kept_awake(machine):
        time.sleep(1.0)
    asked = (tmp_path / "asked").read_text().splitlines()
    assert len(asked) >= 2
    assert set(asked) == {"from sky.skylet import autostop_lib; autostop_lib.set_last_active_time_to_now()"}
    time.sleep(0.3)
    assert len((tmp_path / "asked").read_text().splitlines()) <= len(asked) + 1


def test_a_machine_that_does_not_answer_is_asked_again(machine: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_machine, "_REMIND_EVERY_S", 0.05)
    machine.is_away = True
    with kept_awake(machine):
        time.sleep(0.5)
    assert machine.asked >= 2


def test_a_watchdog_that_began_before_skypilot_took_the_job_is_told_that_data_come(
    machine: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would count what SkyPilot takes as silence, and stop the job for want of data."""
    monkeypatch.setattr(on_machine, "DATA_EXPECTED_EVERY_S", 0.05)
    run_dir = tmp_path / "a folder with 'words'"
    run_dir.mkdir()
    with data_on_their_way(machine, str(run_dir)):
        time.sleep(0.5)
    assert (run_dir / "data.beat").exists()
