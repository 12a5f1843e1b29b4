"""Scripts for SkyPilot's own Python on a rented machine: all that the worker uses of SkyPilot there.

None of it is SkyPilot's public SDK. The machine has the same SkyPilot as the computer that rented it.
`tests/contracts/test_skypilot.py` checks each name and call against the SkyPilot that is installed; what a launch uses
on the other side is in `cloudrun/backends/skypilot/internals.py`.
"""

from __future__ import annotations

# Arms the idle timer. The argument is its minutes.
ARM = """
import sys
from sky.skylet import autostop_lib
autostop_lib.set_autostop(int(sys.argv[1]), "cloudvmray", autostop_lib.AutostopWaitFor.JOBS, True)
"""

# Makes the idle timer count from zero again.
REMIND = "from sky.skylet import autostop_lib; autostop_lib.set_last_active_time_to_now()"

# Skylet runs outside the job's process tree. It ends the machine at its next look, and tries again at each later one.
ASK_SKYLET = """
import os, sys
import psutil
from sky.skylet import autostop_lib
autostop_lib.set_autostop(0, "cloudvmray", autostop_lib.AutostopWaitFor.NONE, True)
others = [one.info["cmdline"] or [] for one in psutil.process_iter(["cmdline"]) if one.pid != os.getpid()]
sys.exit(0 if any("sky.skylet.skylet" in words for words in others) else "SkyPilot's skylet does not run")
"""

# Ends the machine as skylet does, but without skylet's `ray stop`. On AWS by the machine's own role, as skylet, too:
# no keys are taken from the environment or from files.
TERMINATE = """
import os
for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
    os.environ.pop(name, None)
os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.environ["AWS_CONFIG_FILE"] = "/dev/null"
from sky import provision
from sky.skylet import autostop_lib
from sky.utils import cluster_utils, yaml_utils
config = yaml_utils.read_yaml(os.path.expanduser(cluster_utils.SKY_CLUSTER_YAML_REMOTE_PATH))
machine = dict(
    provider_name=cluster_utils.get_provider_name(config),
    cluster_name_on_cloud=config["cluster_name"],
    provider_config=config["provider"],
)
autostop_lib.set_autostopping_started()
if config["max_workers"] > 0:
    try:
        provision.terminate_instances(**machine, worker_only=True)
    except Exception as err:
        print(f"the other machines: {err!r}")
provision.terminate_instances(**machine)
"""
