"""A Slurm cluster on this machine that pretends to have GPUs, so that tests meet SkyPilot itself.

    python tests/sky/slurm_cluster.py up --base /tmp/slurm-dev      # then: source /tmp/slurm-dev/env.sh
    python tests/sky/slurm_cluster.py status --base /tmp/slurm-dev
    python tests/sky/slurm_cluster.py down --base /tmp/slurm-dev

Everything is private to `base`: munge, Slurm, sshd, SkyPilot's HOME and its API server, all on free ports, and
an unprivileged user who is "the rented machine". Outside it there are only that user, a line in /etc/hosts, and
the packages that were missing. `down` finds what to end by what it holds of `base`, whatever happened before.
"""

import argparse
import contextlib
import fcntl
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
MARK = "SKY_TEST_CLUSTER"
GPU_HOURLY_USD = {"A100": 1.29, "RTX4090": 0.35, "L4": 0.7}
# One device file for each pretended GPU: Slurm wants the files to exist and never opens them.
GPU_DEVICES = {"A100": ["/dev/null", "/dev/zero"], "RTX4090": ["/dev/full"], "L4": ["/dev/tty"]}
# Nodes with such GPUs; L4 is for runs on several.
GPU_NODES = {"A100": 1, "RTX4090": 1, "L4": 2}
# One GPU type a node, since SkyPilot sees only one; each node's name begins with the user's.
_NODES = {f"{gpu.lower()}-{number}": gpu for gpu, count in GPU_NODES.items() for number in range(count)}
PROGRAMS = {
    "slurmctld": "slurm-wlm",
    "munged": "munge",
    "sshd": "openssh-server",
    "rsync": "rsync",
    "python3": "python3",
}
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


class ClusterUnavailable(Exception):
    """This machine cannot hold the cluster; the message says why."""


@dataclass(frozen=True, slots=True)
class SlurmCluster:
    """A running cluster, or one that is being set up."""

    base: Path
    user: str
    ports: dict[str, int]

    @property
    def env(self) -> dict[str, str]:
        """The environment for `cloudrun`, `sky` and Slurm's commands; nothing of the caller's own leaks in."""
        return {
            "HOME": str(self.base / "client"),
            "PATH": f"{Path(sys.executable).parent}:{SYSTEM_PATH}",
            "LANG": "C.UTF-8",
            "TMPDIR": str(self.base / "tmp"),
            "PYTHONPATH": str(HERE / "patches"),
            "SSL_CERT_FILE": os.environ.get("SSL_CERT_FILE", CERTIFICATES),
            "SLURM_CONF": str(self.base / "etc/slurm.conf"),
            "SKYPILOT_API_SERVER_LOCAL_PORT": str(self.ports["api"]),
            "SKYPILOT_DISABLE_USAGE_COLLECTION": "1",
            "SKY_TEST_NET_PROBE": f"http://127.0.0.1:{self.ports['probe']}/",
            MARK: str(self.base),
        }

    @property
    def node_home(self) -> Path:
        """Home of the user who is the rented machine; a machine's own home is `machine_home`."""
        return self.base / "node"

    def machine_home(self, cluster_name: str) -> Path | None:
        """The `~` of a rented machine, or None once it is gone: SkyPilot makes one below `node_home` for each."""
        homes = self.node_home.glob(f".sky_clusters/{cluster_name}-*")
        return next(homes, None)

    def squeue(self) -> list[str]:
        """Names of the allocations that Slurm still holds: what would be billed."""
        return self.run("squeue", "--noheader", "--format=%j").split()

    def scancel(self, cluster_name: str | None = None) -> None:
        """Take machines away from outside SkyPilot, as a preemption does: those of one name, or all."""
        names = [name for name in self.squeue() if cluster_name is None or name.startswith(f"{cluster_name}-")]
        for name in names:
            self.run("scancel", f"--name={name}")

    def wait_until_free(self, timeout_s: float = 60) -> None:
        """Wait until Slurm holds no allocation; TimeoutError names those that are left."""
        _wait(lambda: not self.squeue(), timeout_s, lambda: f"still allocated: {self.squeue()}")

    def run(self, *command: str, timeout_s: float = 300) -> str:
        """What a command of `env` prints on stdout; its stderr is in the error where it fails."""
        done = subprocess.run(
            command,
            env=self.env,
            cwd=self.base,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{shlex.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout


def start(base: Path) -> SlurmCluster:
    """A cluster below `base` (a short path, empty or not there yet), with SkyPilot's API server up."""
    install_programs()
    base.mkdir(parents=True, exist_ok=True)
    if any(base.iterdir()):
        raise ClusterUnavailable(f"{base} is not empty: end the cluster there with `down` first")
    base.chmod(0o755)  # the machine's user looks inside
    cluster = SlurmCluster(base, _add_user(base / "node"), _free_ports("ctld", "ssh", "probe", "api", *_NODES))
    try:
        _make_folders(cluster)
        _write_machine(cluster)
        _write_slurm(cluster)
        _write_client(cluster)
        _start_daemons(cluster)
        cluster.run("sky", "api", "start")
        cluster.run("sky", "check", "slurm")
    except BaseException:
        stop(base)
        raise
    return cluster


def load(base: Path) -> SlurmCluster:
    """The cluster that `start` left below `base`."""
    known = json.loads((base / "cluster.json").read_text())
    return SlurmCluster(base, known["user"], known["ports"])


def stop(base: Path) -> None:
    """End every process of the cluster and remove its user and folder; whatever is gone already is fine."""
    if (base / "cluster.json").exists():
        with contextlib.suppress(RuntimeError, OSError, subprocess.TimeoutExpired):
            load(base).run("scancel", "--user=" + load(base).user, timeout_s=10)
    # Twice without mercy: the first time something may have been starting something.
    for ending in (signal.SIGTERM, signal.SIGKILL, signal.SIGKILL):
        for process in processes_of(base):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, ending)
        with contextlib.suppress(TimeoutError):
            _wait(lambda: not processes_of(base), 5, lambda: "")
    _rewrite_hosts(base, [])
    for user in _users_at(base / "node"):
        subprocess.run(["userdel", user], check=True, capture_output=True)
    shutil.rmtree(base, ignore_errors=True)
    if left := processes_of(base):
        raise RuntimeError(f"still running for {base}: {left}")


def install_programs() -> None:
    """Install Slurm, munge, sshd and rsync where they are missing: Debian or Ubuntu, and root, only."""
    if os.geteuid() != 0:
        raise ClusterUnavailable("a Slurm cluster of our own needs root: it has a user of its own")
    missing = {package for program, package in PROGRAMS.items() if not shutil.which(program, path=SYSTEM_PATH)}
    if not missing:
        return
    if not shutil.which("apt-get"):
        raise ClusterUnavailable(f"not Debian or Ubuntu, and these packages are missing: {sorted(missing)}")
    no_services = Path("/usr/sbin/policy-rc.d")
    ours = not no_services.exists()
    if ours:  # else Debian would start an sshd and a munged of its own
        no_services.write_text("#!/bin/sh\nexit 101\n")
        no_services.chmod(0o755)
    apt = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300"]
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        for command in (["update"], ["install", "--no-install-recommends", *sorted(missing)]):
            done = subprocess.run([*apt, *command], env=env, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise ClusterUnavailable(f"`apt-get {command[0]}` failed:\n{done.stderr[-2000:]}")
    finally:
        if ours:
            no_services.unlink()


def _add_user(home: Path) -> str:
    """A new unprivileged user whose number is one of a few, so that its package cache serves the next cluster.

    SkyPilot keeps that cache in /tmp/uv_cache_<number>. It stays when the user goes: torch is 3 GB.
    """
    refusal = ""
    for number in range(64211, 64220):
        name = f"skynode{number % 10}"
        for stale in _users_at(None):
            if stale == name:
                subprocess.run(["userdel", name], check=True, capture_output=True)
        # `*`, not a locked `!`: sshd refuses locked accounts.
        add = ["useradd", "--no-create-home", "--shell", "/bin/bash", "--password", "*", "--uid", str(number)]
        done = subprocess.run([*add, "--home-dir", str(home), name], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return name
        refusal = done.stderr.strip()
    raise ClusterUnavailable(f"no user could be added for the machine: {refusal}")


def _users_at(home: Path | None) -> list[str]:
    """Users of ours who live in `home`, or with None those whose home is gone."""
    users = [line.split(":") for line in Path("/etc/passwd").read_text().splitlines()]
    ours = [(name, Path(where)) for name, *_, where, _shell in users if name.startswith("skynode")]
    return [name for name, where in ours if (where == home if home else not where.parent.exists())]


def _free_ports(*names: str) -> dict[str, int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in names]
        return {name: listener.getsockname()[1] for name, listener in zip(names, sockets, strict=True)}


def _make_folders(cluster: SlurmCluster) -> None:
    for folder in ("etc", "log", "run/empty", "spool/ctld", "tmp", "client/.slurm"):
        (cluster.base / folder).mkdir(parents=True)
    for owned in (cluster.node_home, cluster.base / "runtime"):
        owned.mkdir()
        shutil.chown(owned, cluster.user, cluster.user)
    Path("/run/sshd").mkdir(exist_ok=True)  # compiled into Debian's sshd
    (cluster.base / "cluster.json").write_text(json.dumps({"user": cluster.user, "ports": cluster.ports}))
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in cluster.env.items())
    (cluster.base / "env.sh").write_text(exports)


def _write_machine(cluster: SlurmCluster) -> None:
    """What a cloud's machine image would hold: uv, Python, and an sshd that lets SkyPilot in."""
    base, client = cluster.base, cluster.base / "client"
    uv = shutil.which("uv") or str(HERE.parents[1] / ".uv/bin/uv")  # where the Makefile puts it
    _call(uv, "pip", "install", "--quiet", "--python", sys.executable, "--target", str(base / "uv"), "uv")
    for key in (base / "etc/host_key", client / "id_ed25519"):
        _call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
    ssh = cluster.node_home / ".ssh"
    ssh.mkdir(mode=0o700)
    (ssh / "authorized_keys").write_bytes((client / "id_ed25519.pub").read_bytes())
    node_env = {MARK: str(base), "SLURM_CONF": f"{base}/etc/slurm.conf", "SSL_CERT_FILE": CERTIFICATES}
    # For `ssh <machine>`: SkyPilot runs an sshd of its own inside the allocation, which has none of `SetEnv` below.
    bashrc = cluster.node_home / ".bashrc"
    bashrc.write_text("".join(f"export {name}={value}\n" for name, value in node_env.items()))
    for path in (ssh, ssh / "authorized_keys", bashrc):
        shutil.chown(path, cluster.user, cluster.user)
    (base / "etc/sshd_config").write_text(
        textwrap.dedent(f"""\
        Port {cluster.ports["ssh"]}
        ListenAddress 127.0.0.1
        HostKey {base}/etc/host_key
        PidFile none
        AllowUsers {cluster.user}
        PasswordAuthentication no
        StrictModes no
        UsePAM no
        PrintMotd no
        MaxSessions 200
        MaxStartups 100:30:200
        Subsystem sftp internal-sftp
        SetEnv {" ".join(f"{name}={value}" for name, value in node_env.items())}
        """)
    )
    # SkyPilot would fetch uv from astral.sh and Python 3.10 from GitHub; it takes what it finds in their places.
    # It looks below a home and a runtime folder of its own for each rented machine, and Slurm runs this script
    # before each step there, as the machine's user. The port: our machines share one network, and two that SkyPilot
    # starts within five seconds would choose the same port for its daemon, of which one then never comes up.
    shutil.copy(HERE / "patches/after_import.py", base / "etc")
    prolog = base / "etc/task_prolog.sh"
    prolog.write_text(
        textwrap.dedent(f"""\
        #!/bin/bash
        exec >>{base}/log/prolog.log 2>&1
        shopt -s nullglob
        for home in {cluster.node_home}/.sky_clusters/*/; do
          mkdir -p "$home.local/bin" && ln -sfn {base}/uv/bin/uv "$home.local/bin/uv"
        done
        make_runtime() {{
          export UV_CACHE_DIR=/tmp/uv_cache_$(id -u)
          {base}/uv/bin/uv venv --quiet --seed --python /usr/bin/python3 "$1" || return
          cd "$1"/lib/python3*/site-packages && cp {base}/etc/after_import.py . &&
          echo "import after_import; after_import.set_constant('sky.skylet.constants', 'SKYLET_GRPC_PORT'," \
            "$((10000 + RANDOM % 20000)))" >after_import.pth
        }}
        for runtime in {base}/runtime/*/; do
          [ -d "$runtime.sky" ] && [ ! -d "$runtime/skypilot-runtime" ] || continue
          ( flock 9; [ -d "$runtime/skypilot-runtime" ] || make_runtime "$runtime/skypilot-runtime" ) \
            9>"$runtime.sky/venv.lock"
        done
        exit 0
        """)
    )
    prolog.chmod(0o755)
    (base / "log/prolog.log").touch()
    (base / "log/prolog.log").chmod(0o666)


def _write_slurm(cluster: SlurmCluster) -> None:
    base, host = cluster.base, socket.gethostname()
    try:
        address = socket.gethostbyname(host)  # what SkyPilot's job runner takes for its own address
    except OSError as err:
        raise ClusterUnavailable(f"this machine's own name `{host}` does not resolve") from err
    key = base / "etc/munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    size = "CPUs=64 RealMemory=262144"  # more than there is: `cpus: 8+` and `memory: 64+` must fit, twice
    nodes = [
        f"NodeName={cluster.user}-{node} NodeAddr={address} Port={cluster.ports[node]} {size} "
        f"Gres=gpu:{gpu}:{len(GPU_DEVICES[gpu])} State=UNKNOWN\n"
        for node, gpu in _NODES.items()
    ]
    (base / "etc/slurm.conf").write_text(
        textwrap.dedent(f"""\
        ClusterName=localslurm
        SlurmctldHost={host}(127.0.0.1)
        SlurmctldPort={cluster.ports["ctld"]}
        SlurmUser=root
        AuthType=auth/munge
        AuthInfo=socket={base}/run/munge.sock
        StateSaveLocation={base}/spool/ctld
        SlurmdSpoolDir={base}/spool/%n
        SlurmctldPidFile={base}/run/slurmctld.pid
        SlurmdPidFile={base}/run/%n.pid
        ProctrackType=proctrack/linuxproc
        TaskPlugin=task/none
        TaskProlog={base}/etc/task_prolog.sh
        SchedulerType=sched/backfill
        SelectType=select/cons_tres
        SelectTypeParameters=CR_Core_Memory
        GresTypes=gpu
        SlurmdParameters=config_overrides
        ReturnToService=2
        MpiDefault=none
        KillWait=5
        PartitionName=gpu Nodes=ALL Default=YES MaxTime=24:00:00 State=UP
        """)
        + "".join(nodes)
    )
    lines = [
        f"NodeName={cluster.user}-{node} Name=gpu Type={gpu} File={','.join(GPU_DEVICES[gpu])}\n"
        for node, gpu in _NODES.items()
    ]
    (base / "etc/gres.conf").write_text("".join(lines))
    (base / "etc/cgroup.conf").touch()
    _rewrite_hosts(base, _node_names(cluster))


def _write_client(cluster: SlurmCluster) -> None:
    """SkyPilot's own files: where the cluster is, what it costs, and the GPU catalog, which it would download."""
    home = cluster.base / "client"
    (home / ".slurm/config").write_text(
        textwrap.dedent(f"""\
        Host localslurm
          HostName 127.0.0.1
          Port {cluster.ports["ssh"]}
          User {cluster.user}
          IdentityFile {home}/id_ed25519
          IdentitiesOnly yes
        """)
    )
    config = {
        "allowed_clouds": ["slurm"],
        "slurm": {
            "pricing": {"accelerators": GPU_HOURLY_USD},
            "provision_timeout": 20,  # s until a GPU that others hold counts as not to be had; else it waits for a day
            "cluster_configs": {"localslurm": {"tmpdir": str(cluster.base / "runtime")}},
        },
    }
    common = home / ".sky/catalogs/v8/common"
    common.mkdir(parents=True)
    (home / ".sky/config.yaml").write_text(json.dumps(config))  # JSON is YAML
    rows = [f"{name},\"['Slurm']\"\n" for name in [*GPU_HOURLY_USD, "H100"]]
    (common / "accelerators.csv").write_text("AcceleratorName,Clouds\n" + "".join(rows))


def _start_daemons(cluster: SlurmCluster) -> None:
    base = cluster.base
    conf = str(base / "etc/slurm.conf")
    munge_files = [
        f"--{name}-file={base}/{path}"
        for name, path in {
            "key": "etc/munge.key",
            "pid": "run/munged.pid",
            "log": "log/munged.log",
            "seed": "run/munged.seed",
        }.items()
    ]
    _daemon(cluster, "munged", "--foreground", "--force", f"--socket={base}/run/munge.sock", *munge_files)
    _daemon(cluster, "sshd", "-D", "-e", "-f", str(base / "etc/sshd_config"))
    probe = ["-m", "http.server", str(cluster.ports["probe"]), "--bind", "127.0.0.1"]
    _daemon(cluster, sys.executable, *probe, "--directory", str(base / "run/empty"))
    _wait((base / "run/munge.sock").exists, 10, lambda: _tail(base, "munged"))
    _daemon(cluster, "slurmctld", "-D", "-f", conf)
    for node in _node_names(cluster):
        _daemon(cluster, "slurmd", "-D", "-N", node, "-f", conf)

    def nodes_are_idle() -> bool:
        with contextlib.suppress(RuntimeError):
            return cluster.run("sinfo", "--noheader", "--format=%T %D").strip() == f"idle {len(_NODES)}"
        return False

    _wait(nodes_are_idle, 30, lambda: _tail(base, "slurmctld") + _tail(base, "slurmd"))


def _node_names(cluster: SlurmCluster) -> list[str]:
    return [f"{cluster.user}-{node}" for node in _NODES]


def _rewrite_hosts(base: Path, names: Iterable[str]) -> None:
    """Make /etc/hosts know the nodes' names, which SkyPilot looks up; without names, as it was before."""
    with Path("/etc/hosts").open("r+") as hosts:
        fcntl.flock(hosts, fcntl.LOCK_EX)
        lines = [line for line in hosts if not line.endswith(f"# {MARK}={base}\n")]
        if named := " ".join(names):
            lines.append(f"127.0.0.1 {named} # {MARK}={base}\n")
        hosts.seek(0)
        hosts.write("".join(lines))
        hosts.truncate()


def _daemon(cluster: SlurmCluster, *command: str) -> None:
    program = shutil.which(command[0], path=SYSTEM_PATH) or command[0]  # sshd wants its full path
    with (cluster.base / f"log/{Path(program).name}.out").open("ab") as log:
        subprocess.run(
            ["setsid", "--fork", program, *command[1:]],
            env=cluster.env,
            cwd=cluster.base,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            check=True,
        )


def processes_of(base: Path) -> list[int]:
    """Processes of the cluster, but for this one and those it runs in.

    They carry its mark, or hold a file of it open (those that wrote a title over their environment: sshd, and
    the workers of SkyPilot's API server), or belong to its user.
    """
    owner = (base / "node").stat().st_uid if (base / "node").exists() else 0
    ours = set(_this_process_and_ancestors())
    processes = (int(folder.name) for folder in Path("/proc").glob("[0-9]*"))
    return [process for process in processes if process not in ours and _belongs_to(base, owner, process)]


def _belongs_to(base: Path, owner: int, process: int) -> bool:
    folder = Path(f"/proc/{process}")
    try:
        if b") Z " in (folder / "stat").read_bytes():
            return False
        if f"{MARK}={base}".encode() in (folder / "environ").read_bytes().split(b"\0"):
            return True
        if owner and folder.stat().st_uid == owner:
            return True
        return any(str(opened.readlink()).startswith(f"{base}/") for opened in (folder / "fd").iterdir())
    except OSError:  # it has ended meanwhile
        return False


def _this_process_and_ancestors() -> Iterator[int]:
    process = os.getpid()
    while process > 0:
        yield process
        process = int(Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[1])


def _wait(is_true: Callable[[], bool], timeout_s: float, describe: Callable[[], str]) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_s:g} s: {describe()}")
        time.sleep(0.2)


def _tail(base: Path, program: str) -> str:
    return (base / f"log/{program}.out").read_text()[-2000:]


def _call(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as err:
        raise ClusterUnavailable(f"`{command[0]}` is missing") from err
    if done.returncode != 0:
        raise ClusterUnavailable(f"`{shlex.join(command)}` failed: {done.stderr.strip()[-2000:]}")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["up", "down", "status"])
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--when-stdin-closes", action="store_true", help="`down` only once our parent is done or dead")
    options = parser.parse_args(arguments)
    base = options.base.absolute()
    if options.action == "up":
        try:
            print(f"source {start(base).base}/env.sh")
        except ClusterUnavailable as err:
            sys.exit(f"error: {err}")
    elif options.action == "status":
        print(load(base).run("sinfo") + load(base).run("squeue"), end="")
    else:
        if options.when_stdin_closes:
            sys.stdin.read()
        stop(base)
    return 0


if __name__ == "__main__":
    sys.exit(main())
