"""A machine that one can log in to: an sshd on the loopback with a key, a home folder and programs of its own."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.seaweedfs import free_ports

# In place of uv: the run's environment is this Python, so that a run is set up in no time and from no network.
_UV = """\
#!/bin/sh
if [ "$1" = venv ]; then
  for folder; do :; done
  mkdir -p "$folder/bin"
  printf '#!/bin/sh\\nexec {python} "$@"\\n' > "$folder/bin/python"
  chmod +x "$folder/bin/python"
fi
"""
_NVIDIA_SMI = """\
#!/bin/sh
case "$*" in
  *index,name*) cat "{root}/gpus" ;;
  *) sed 's/^[0-9]*, \\([^,]*\\), [0-9]*, \\([0-9]*\\).*/\\1, \\2 MiB, 570.86/' "{root}/gpus" ;;
esac
"""


class Sshd:
    """One sshd. `gpus` makes the machine have GPUs, by lines as nvidia-smi writes them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = root / "home"
        self.key = root / "user_key"
        self.port = free_ports(1)[0]
        self._process: subprocess.Popen[bytes] | None = None
        (root / "bin").mkdir(parents=True)
        self.home.mkdir()
        for name in ("host_key", "user_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", root / name], check=True)
        self.add_program("uv", _UV.replace("{python}", sys.executable))

    @property
    def address(self) -> str:
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}"

    def add_program(self, name: str, text: str) -> None:
        path = self.root / "bin" / name
        path.write_text(text)
        path.chmod(0o755)

    def gpus(self, *lines: str) -> None:
        (self.root / "gpus").write_text("".join(f"{line}\n" for line in lines))
        self.add_program("nvidia-smi", _NVIDIA_SMI.replace("{root}", str(self.root)))

    def new_host_key(self) -> None:
        """As if another machine had been rented at the same address."""
        (self.root / "host_key").unlink()
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.root / "host_key"], check=True)

    def start(self, *, before_each_command: str = "") -> None:
        sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
        assert sshd is not None
        path = f"{self.root / 'bin'}:{os.environ['PATH']}"
        forced = f'ForceCommand {before_each_command}; sh -c "$SSH_ORIGINAL_COMMAND"\n' if before_each_command else ""
        (self.root / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.root}/host_key\nPidFile none\nUsePAM no\n"
            f"StrictModes no\nAuthorizedKeysFile {self.root}/user_key.pub\nPasswordAuthentication no\n"
            f"SetEnv PATH={path} HOME={self.home}\n{forced}"
        )
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        self._process = subprocess.Popen([sshd, "-D", "-f", self.root / "sshd_config", "-E", self.root / "sshd.log"])
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise TimeoutError((self.root / "sshd.log").read_text())

    def stop(self) -> None:
        """Turn the machine off: nobody answers, and open connections break. What runs there goes on, unlike there."""
        if self._process is None:
            return
        children = subprocess.run(
            ["pgrep", "-P", str(self._process.pid)], capture_output=True, text=True, check=False
        ).stdout.split()
        self._process.terminate()
        self._process.wait()
        for child in children:
            subprocess.run(["kill", child], capture_output=True, check=False)
        self._process = None


def skip_without_sshd() -> None:
    if shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin") is None or shutil.which("rsync") is None:
        pytest.skip("needs sshd and rsync (apt install openssh-server rsync)")
