"""What `cloudrun` relies on in SkyPilot, by name: run this first when SkyPilot is upgraded.

The uses are read from the code itself: of the package that rents by SkyPilot, and of the scripts that run in SkyPilot's
own Python on a rented machine, which has the same SkyPilot. What no name shows stands in tables here: attributes of
values that SkyPilot hands back, file names, words in its messages.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import cloudrun
from cloudrun.backends.skypilot import internals
from cloudrun.backends.skypilot.keys import CAN_WITHHOLD
from cloudrun.catalog.endings import MARKETS_WITH_HOMES
from cloudrun.remote.python import FIND_PYTHON
from cloudrun.worker import sky_internals
from tests.support.checkout import CHECKOUT
from tests.support.sky_uses import Use, scripts_in, uses_in

PACKAGE = Path(cloudrun.__file__).parent
BACKEND = sorted((PACKAGE / "backends" / "skypilot").glob("*.py"))
# Modules whose strings are programs for a Python that has SkyPilot.
WITH_SCRIPTS = (PACKAGE / "worker" / "sky_internals.py", PACKAGE / "cli" / "clouds.py")


def _scripts() -> list[str]:
    return [script for path in WITH_SCRIPTS for script in scripts_in(path.read_text(encoding="utf-8"))]


IN_CODE = sorted({use for path in BACKEND for use in uses_in(path.read_text(encoding="utf-8"))}, key=str)
IN_SCRIPTS = sorted({use for script in _scripts() for use in uses_in(script)}, key=str)
# Methods of values that SkyPilot hands back, which the code does not call by their whole names.
ON_VALUES = [
    Use("sky.Resources.get_cost", 2),
    Use("sky.clouds.Cloud.check_features_are_supported", 2),
    Use("sky.clouds.Cloud.get_credential_file_mounts", 1),
    Use("sky.clouds.Cloud.get_vcpus_mem_from_instance_type", 1),
    Use("sky.clouds.Cloud.max_cluster_name_length", 0),
    Use("sky.utils.registry.CLOUD_REGISTRY.from_str", 1),
    Use("sky.provision.lambda_cloud.lambda_utils.LambdaCloudClient.list_instances", 1),
    Use("sky.provision.lambda_cloud.lambda_utils.LambdaCloudClient.remove_instances", 2),
    Use(
        "sky.provision.terminate_instances",
        0,
        ("cluster_name_on_cloud", "provider_config", "provider_name", "worker_only"),
    ),
]
USES = [*IN_CODE, *IN_SCRIPTS, *ON_VALUES]

ATTRIBUTES = {
    "sky.schemas.api.responses.StatusResponse": ("name", "launched_at", "handle", "status", "cloud"),
    "sky.backends.CloudVmRayResourceHandle": ("launched_resources", "launched_nodes", "cluster_name_on_cloud"),
    "sky.Resources": ("cloud", "instance_type", "region", "accelerators", "use_spot", "disk_size"),
    "sky.catalog.common.InstanceTypeInfo": (
        "cloud", "instance_type", "accelerator_name", "accelerator_count", "cpu_count", "device_memory", "memory",
        "price", "spot_price", "region",
    ),
    "sky.Dag": ("tasks",),
    "sky.Task": ("best_resources",),
    "sky.server.requests.payloads.RequestPayload": ("request_id", "name"),
}  # fmt: skip
HAS = {f"{owner}.{name}": f"has(found({owner!r}), {name!r})" for owner, names in ATTRIBUTES.items() for name in names}


class Fact(NamedTuple):
    """An expression over the installed SkyPilot, and what cloudrun takes it to be."""

    about: str
    expression: str
    expected: Any = True


_SETTINGS = "found('sky.utils.schemas').get_config_schema()['properties'].items()"
FACTS = [
    # On a rented machine
    Fact(
        "files on their way", "found('sky.backends.backend_utils')._REMOTE_RUNTIME_FILES_DIR", internals.RUNTIME_FILES
    ),
    Fact("logs of jobs", "found('sky.skylet.constants').SKY_LOGS_DIRECTORY + '/*/run.log'", internals.JOB_LOGS[0]),
    Fact("a machine's tag", "found('sky.provision.constants').TAG_RAY_CLUSTER_NAME", internals.MACHINE_TAG),
    Fact(
        "SkyPilot's Python",
        "found('sky.skylet.constants').SKY_REMOTE_PYTHON_ENV",
        "${SKY_RUNTIME_DIR:-$HOME}/skypilot-runtime",
    ),
    Fact("the backend's name", "found('sky.backends.CloudVmRayBackend').NAME", "cloudvmray"),
    # Read, never imported: the import ends every skylet that `ps` shows, those of machines in namespaces here, too.
    Fact("skylet's command line", "'-m sky.skylet.skylet' in text('sky', 'skylet/attempt_skylet.py')"),
    *(
        Fact(
            f"what a machine of {cloud} knows of itself",
            "[key for key in ('cluster_name', 'max_workers', 'provider')"
            f" if f'\\n{{key}}:' not in '\\n' + text('sky', 'templates/{cloud}-ray.yml.j2')]",
            [],
        )
        for cloud in ("aws", "gcp", "lambda", "runpod", "slurm", "vast")
    ),
    # On this computer
    Fact(
        "SSH's hosts",
        "found('sky.utils.cluster_utils.SSHConfigHelper').ssh_cluster_path",
        "~/.sky/generated/ssh/{}",
    ),
    Fact("the catalogs' folder", "'.sky/catalogs' in source(found('sky.catalog.common'))"),
    # Words in answers and errors
    Fact(
        "a launch among requests",
        f"{internals._LAUNCH!r} in found('sky.server.requests.request_names.RequestName').CLUSTER_LAUNCH.value",
    ),
    Fact("GPUs that are offered instead", "'offered accelerators: ' in source(found('sky.optimizer'))"),
    Fact("a name that was meant", "'Did you mean: ' in source(found('sky.optimizer'))"),
    Fact(
        "a row of the cost report",
        "[key for key in ('name', 'launched_at', 'duration', 'usage_intervals', 'total_cost')"
        " if f\"'{key}'\" not in source(found('sky.core.cost_report'))]",
        [],
    ),
    Fact("Vast's client", "'def show_instances(self, ' in text('vastai', 'vastai_base.py')"),  # importing it asks Vast
    # Settings
    Fact(
        "clouds whose keys can be held back",
        f"sorted(cloud for cloud, one in {_SETTINGS} if 'remote_identity' in one.get('properties', {{}}))",
        sorted(CAN_WITHHOLD),
    ),
    Fact(
        "markets that have data centres alone on request",
        f"sorted(cloud for cloud, one in {_SETTINGS} if 'datacenter_only' in one.get('properties', {{}}))",
        sorted(MARKETS_WITH_HOMES),
    ),
]


PUBLIC = "list(found('sky').__all__)"


@pytest.fixture(scope="module")
def skypilot(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """The installed SkyPilot's answers, of one process: SkyPilot takes seconds to import, and looks at the home."""
    return _asked(USES, [*HAS.values(), *(fact.expression for fact in FACTS), PUBLIC], tmp_path_factory.mktemp("home"))


def _asked(uses: Sequence[Use], values: Sequence[str], home: Path) -> dict[str, list[Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.programs.look_at_skypilot"],
        input=json.dumps({"uses": [use.as_plain() for use in uses], "values": list(values)}),
        env={**os.environ, "HOME": str(home), "SKYPILOT_DISABLE_USAGE_COLLECTION": "1"},
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answers: dict[str, list[Any]] = json.loads(done.stdout.splitlines()[-1])
    return answers


@pytest.mark.parametrize("number", range(len(USES)), ids=[str(use) for use in USES])
def test_skypilot_has_the_name_and_takes_the_arguments(number: int, skypilot: dict[str, list[Any]]) -> None:
    assert skypilot["uses"][number] == ""


@pytest.mark.parametrize("number", range(len(HAS)), ids=list(HAS))
def test_what_skypilot_hands_back_has_the_attribute(number: int, skypilot: dict[str, list[Any]]) -> None:
    assert skypilot["values"][number] is True


@pytest.mark.parametrize("number", range(len(FACTS)), ids=[fact.about for fact in FACTS])
def test_skypilots_paths_words_and_settings_are_as_they_were(number: int, skypilot: dict[str, list[Any]]) -> None:
    assert skypilot["values"][len(HAS) + number] == FACTS[number].expected


def test_skypilots_own_command_is_where_cloudrun_starts_it() -> None:
    assert [one.value for one in entry_points(group="console_scripts", name="sky")] == ["sky.cli:cli"]
    assert Use("sky.cli.cli", 0) in IN_SCRIPTS


def test_the_machines_python_is_skypilots() -> None:
    assert '"${SKY_RUNTIME_DIR:-$HOME}/skypilot-runtime/bin/python"' in FIND_PYTHON


def test_the_uses_are_found() -> None:
    """Of a reader that finds nothing, every test here would be green."""
    assert Use("sky.launch", 1, ("cluster_name", "down", "idle_minutes_to_autostop", "wait_for")) in IN_CODE
    assert Use("sky.server.common.is_api_server_local", 0) in IN_CODE
    assert Use("sky.adaptors.aws.client", 1, ("region_name",)) in IN_CODE
    assert Use("sky.skylet.autostop_lib.set_autostop", 4) in IN_SCRIPTS
    assert Use("sky.skylet.autostop_lib.set_last_active_time_to_now", 0) in IN_SCRIPTS
    assert len(IN_CODE) > 50


def test_a_name_that_skypilot_lacks_and_an_argument_that_it_does_not_take_are_told_by_name(tmp_path: Path) -> None:
    """The program that looks, on uses of Python's own library."""
    uses = [Use("json.nosuch", 0), Use("shlex.quote", 1, ("nosuch",)), Use("shlex.quote", 0, ("s",)), Use("json")]
    answers = _asked(uses, ["found('json').nosuch"], tmp_path)
    gone, other, *good = answers["uses"]
    assert "`json.nosuch`" in gone
    assert "nosuch" in other
    assert "shlex.quote" in other
    assert good == ["", ""]
    assert "nosuch" in answers["values"][0]


# The rest of its package calls the public SDK, and the rest of cloudrun not even that (see the import contracts).
INSIDE = {PACKAGE / "backends" / "skypilot" / "internals.py"}
_A_PROGRAM = re.compile(r"\b(?:from|import) sky\b|\bsky\.(?:skylet|server|utils|provision|adaptors|clouds)\.")


def _strings(source: str) -> Iterator[str]:
    """Yield the string constants of a module, but no docstrings."""
    tree = ast.parse(source)
    documents = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documents:
            yield node.value


def test_what_is_not_skypilots_public_sdk_is_named_in_two_modules_alone(skypilot: dict[str, list[Any]]) -> None:
    public = {"", "exceptions", *skypilot["values"][-1]}
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        if path not in INSIDE:
            wrong += [f"{path.name}: {use}" for use in uses_in(source) if f"{use.name}..".split(".")[1] not in public]
        if path not in WITH_SCRIPTS:
            wrong += [f"{path.name}: {text}" for text in _strings(source) if _A_PROGRAM.search(text)]
    assert wrong == []


def test_the_scripts_of_the_machine_are_constants_that_can_be_read() -> None:
    assert len(scripts_in(WITH_SCRIPTS[0].read_text(encoding="utf-8"))) == 4
    assert sky_internals.REMIND in _scripts()


def test_the_clouds_that_skypilot_found_enabled_are_read_from_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "from sky import global_user_state; from sky.clouds.cloud import CloudCapability; "
        "global_user_state.set_enabled_clouds(['RunPod', 'AWS'], CloudCapability.COMPUTE, 'default')"
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv(internals.RUNTIME_DIR, raising=False)
    monkeypatch.delenv(internals.ELSEWHERE, raising=False)
    assert internals.remembered_clouds() is None
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert internals.remembered_clouds() == ("aws", "runpod")
