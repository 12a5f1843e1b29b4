"""SSH and rsync to a machine, by the host entry that SkyPilot wrote for it, or by our own for a machine of the user's.

One connection is opened and shared by all commands (ControlMaster), so that a look at the log costs
milliseconds and not a handshake.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import stat
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from cloudrun.errors import StoreError
from cloudrun.remote.entries import entry_of
from cloudrun.remote.unreachable import hint_for, reason_of
from cloudrun.worker.child import end_with_parent

_CONNECTION_LOST = 255  # ssh's own exit code
_RSYNC_LOST = (10, 12, 30, 35, 255)
# Where this process is killed outright, its rsync must end: it must not write on beside that of the next process.
ends_with_this = end_with_parent if sys.platform == "linux" else None


class MachineUnreachable(StoreError):
    """A machine does not answer over SSH."""

    def __init__(self, machine: str, said: str, *, hint: str = "") -> None:
        super().__init__(
            f"machine `{machine}` does not answer over SSH: {said or 'no reason given'}",
            hint=hint or "`cloudrun ps --refresh` tells whether it is still there",
        )


class TransferTooSlow(StoreError):
    """A transfer took longer than it may."""


class Connection:
    """Runs commands and copies files on one machine. Of several rented together, it is number `node`, from 0.

    `host` is the machine's name for ssh and rsync. Raises StoreError where this computer has no entry of it.
    """

    def __init__(self, machine: str, *, node: int = 0) -> None:
        self.machine = machine
        self._node = node

    @property
    def host(self) -> str:
        return entry_of(self.machine).host if self._node == 0 else f"{self.machine}-worker{self._node}"

    @property
    def is_own(self) -> bool:
        """Whether the machine is the user's own, and not rented by cloudrun."""
        return entry_of(self.machine).is_own

    def run(self, script: str, *, content: bytes | None = None, timeout_s: float = 60.0) -> tuple[int, bytes]:
        """Run a shell script on the machine, with `content` as its stdin; return its exit code and stdout.

        Raises MachineUnreachable, also where the script takes longer than `timeout_s` seconds.
        """
        try:
            done = subprocess.run(
                [*_ssh(self.machine, self.host), self.host, self._spoken(script)],
                input=content if content is not None else b"",
                capture_output=True,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as err:
            raise self._unreachable(f"no answer in {timeout_s:.0f} s".encode()) from err
        if done.returncode == _CONNECTION_LOST:
            raise self._unreachable(done.stderr)
        return done.returncode, done.stdout

    def _spoken(self, script: str) -> str:
        """Return the script as the login shell has to get it, which on a machine of the user's own may be any: fish."""
        return f"sh -c {shlex.quote(script)}" if self.is_own else script

    def at(self, path: str) -> str:
        """Return a path on the machine as rsync takes it: `host:/path`."""
        host = self.host
        return f"[{host}]:{path}" if ":" in host else f"{host}:{path}"

    def close(self) -> None:
        """Close the shared connection, so that the next command opens one and shows whether the machine answers."""
        with suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(
                [*_ssh(self.machine, self.host), "-O", "exit", self.host],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=10,
                check=False,
            )

    def _unreachable(self, stderr: bytes) -> MachineUnreachable:
        entry = entry_of(self.machine)
        said = stderr.decode("utf-8", "replace")
        if not entry.is_own:
            return MachineUnreachable(self.host, _last_line(stderr))
        return MachineUnreachable(self.host, reason_of(said), hint=hint_for(entry, said))

    def rsync_command(self, *words: str) -> list[str]:
        """Return an rsync command line with `words`; the caller writes `machine:` before a path on the machine."""
        return ["rsync", "-a", "--partial", "-e", shlex.join(_ssh(self.machine, self.host)), *words]

    def rsync(self, *words: str, timeout_s: float | None = None) -> None:
        """Run rsync to its end. Raises StoreError with what it said, TransferTooSlow after `timeout_s` seconds."""
        try:
            done = subprocess.run(
                self.rsync_command(*words),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                preexec_fn=ends_with_this,
                timeout=timeout_s,
            )
        except subprocess.TimeoutExpired as err:
            raise TransferTooSlow(
                f"rsync with `{self.host}` was not through in {timeout_s:.0f} s", hint="run the same command again"
            ) from err
        if done.returncode != 0:
            raise rsync_failed(self.host, done.returncode, done.stderr)


def rsync_failed(machine: str, code: int, stderr: bytes) -> StoreError:
    """Return the error for an rsync that ended with `code`: MachineUnreachable where the connection was lost."""
    said = _last_line(stderr)
    if code in _RSYNC_LOST:
        return MachineUnreachable(machine, said)
    if b"No space left" in stderr:
        return StoreError("a disk is full: " + said, hint="free some space, or ask for more: `resources: {disk: 200}`")
    return StoreError(f"rsync with `{machine}` failed ({code}): {said}", hint="run the same command again: it resumes")


def interactive_command(machine: str) -> list[str]:
    """Return the command for a person's own shell on the machine."""
    return ["ssh", "-F", str(_config(machine)), "-o", "LogLevel=ERROR", "-t", entry_of(machine).host]


def _ssh(machine: str, host: str) -> list[str]:
    sockets = _own_folder()
    options = {
        "BatchMode": "yes",
        "LogLevel": "ERROR",
        "ConnectTimeout": "15",
        "ServerAliveInterval": "10",
        "ServerAliveCountMax": "3",
        "ControlMaster": "auto",
        # By the machine's name, not ssh's %C: machines behind one login node share host, port and user.
        "ControlPath": f"{sockets}/{hashlib.sha256(f'{machine} {host}'.encode()).hexdigest()[:16]}",
        "ControlPersist": "60",
    }
    return [
        "ssh",
        "-F",
        str(_config(machine)),
        *(word for key, value in options.items() for word in ("-o", f"{key}={value}")),
    ]


def _config(machine: str) -> Path:
    """Return the path of the machine's host entry; of SkyPilot's, a copy with `~` spelled out.

    ssh takes `~` for the home folder in passwd, SkyPilot for $HOME. Raises StoreError where there is no entry.
    """
    entry = entry_of(machine)
    if entry.is_own:
        return entry.config
    home = Path.home()
    text = entry.config.read_text(encoding="utf-8")
    spelled = text.replace("~/", f"{home}/")
    if spelled == text:
        return entry.config
    copy = _own_folder() / f"{machine}.config"
    copy.write_text(spelled, encoding="utf-8")
    return copy


def _own_folder() -> Path:
    """The folder of open connections, in a place where others can make folders: theirs would hand over a connection.

    Short, since the name of a socket has at most 104 letters. Raises StoreError where it is not this user's alone.
    """
    folder = Path(tempfile.gettempdir()) / f"cloudrun-ssh-{os.getuid()}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise StoreError(
            f"{folder} is not a folder of yours: another user of this computer made it, or it is a link",
            hint="have it removed, or name a folder of your own: `export TMPDIR=$HOME/tmp`",
        )
    if found.st_mode & 0o077:
        folder.chmod(0o700)
    return folder


def _last_line(text: bytes) -> str:
    lines = text.decode("utf-8", "replace").strip().splitlines()
    return lines[-1].strip() if lines else ""
