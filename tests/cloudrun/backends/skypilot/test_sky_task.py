"""What SkyPilot is asked for, by equality."""

from __future__ import annotations

import shlex

import pytest

from cloudrun.backends.skypilot.task import begin_script, job_config, machine_config
from cloudrun.job.plan import DataRoute, Plan
from cloudrun.protocol.order import Order
from tests.support.plans import a_plan


def test_a_preference_list_becomes_skypilots_ordered_failover() -> None:
    plan = a_plan(
        gpu=["A100:1", "RTX4090:1"], infra="slurm", resources={"cpus": "8+", "memory": "64+", "disk": 200}, spot=True
    )
    assert machine_config(plan) == {
        "name": "plants-1124-x7k2m",
        "resources": {
            "disk_size": 200,
            "cpus": "8+",
            "memory": "64+",
            "infra": "slurm",
            "use_spot": True,
            "ordered": [{"accelerators": "A100:1"}, {"accelerators": "RTX4090:1"}],
        },
    }


def test_the_bare_machine_has_nothing_that_would_delay_its_autodown() -> None:
    config = machine_config(a_plan(gpu="A100:1", setup="pip install x", run="python train.py"))
    assert not {"setup", "run", "workdir", "file_mounts"} & set(config)
    assert config["resources"]["ordered"][0] == {"accelerators": "A100:1"}


def test_a_gpu_is_asked_for_by_all_the_names_under_which_it_is_sold() -> None:
    resources = machine_config(a_plan(gpu=["A100:2", "L40S:2"]))["resources"]
    names = ["A100:2", "A100-80GB:2", "A100-80GB-SXM:2", "L40S:2"]
    assert resources["ordered"] == [{"accelerators": name} for name in names]
    only = machine_config(a_plan(gpu="A100-40GB:1"))["resources"]
    assert only["accelerators"] == "A100:1"
    own = machine_config(a_plan(gpu="A100:1", infra="slurm"))["resources"]
    assert own["accelerators"] == "A100:1"


def test_the_worker_holds_the_gpu() -> None:
    config = job_config(a_plan(gpu="A100:1"), "/home/u/cloudrun/r", {"A100": 1})
    assert config["resources"] == {"accelerators": {"A100": 1}}


def test_the_watchdog_is_started_by_the_same_words_before_the_job_that_waits_for_it() -> None:
    job = job_config(a_plan(gpu="A100:1"), "/home/u/cloudrun/r", None)["run"]
    assert job.endswith('exec "$python" -m cloudrun.worker /home/u/cloudrun/r\n')
    shell, login, dash_c, script = shlex.split(begin_script("/home/u/cloudrun/r"))
    assert (shell, login, dash_c) == ("bash", "--login", "-c")
    assert script == job.removesuffix("\n") + " begin\n"


def test_no_secret_is_given_to_skypilot_which_would_keep_it() -> None:
    config = job_config(a_plan(gpu="A100:1", secrets=["KEY"]), "/home/u/cloudrun/r", {"A100": 1})
    assert not {"secrets", "envs"} & set(config)


def an_order(plan: Plan, infra: str = "slurm") -> Order:
    return plan.order(infra=infra, hourly_usd=1.29, billed_s=40.0, spent_usd=0.01, written_at=0.0)


def test_a_rented_machine_gets_its_data_after_the_worker() -> None:
    plan = a_plan(gpu="A100:1")
    order = an_order(plan)
    assert plan.data_route is DataRoute.PUSHED
    assert (order.data_arrives, order.gpu_count) == (True, 1)


@pytest.mark.parametrize(
    ("infra", "ending", "ends_machine"),
    [("slurm", "slurm", True), ("aws", "skypilot", True), ("local", "nobody", False)],
)
def test_the_worker_is_told_how_its_machine_is_ended(infra: str, ending: str, ends_machine: bool) -> None:
    order = an_order(a_plan(infra=infra), infra)
    assert (order.ending, order.ends_machine) == (ending, ends_machine)
    assert order.outlives_its_job is (ending == "skypilot")


@pytest.mark.parametrize(
    ("infra", "cloud", "has_timer"),
    [("aws", "aws", True), ("slurm", "slurm", True), ("hyperbolic", "hyperbolic", False), ("local", "", False)],
)
def test_the_worker_is_told_its_cloud_and_whether_skypilot_has_a_timer_there(
    infra: str, cloud: str, has_timer: bool
) -> None:
    order = an_order(a_plan(infra=infra), infra)
    assert (order.cloud, order.has_timer) == (cloud, has_timer)


def test_a_gpu_is_not_insisted_on_when_the_job_trains_on_the_cpu() -> None:
    assert an_order(a_plan(gpu="A100:1", train={"device": "cpu"})).gpu_count == 0


def test_a_local_run_reads_its_images_where_they_lie() -> None:
    plan = a_plan(infra="local")
    assert plan.data_route is DataRoute.IN_PLACE
    assert an_order(plan, "local").data_path == "/data/plants"


def test_what_sends_to_a_store_is_installed_before_the_long_set_up() -> None:
    plan = a_plan(gpu="A100:1", store="s3://bucket/leaves/", endpoint="https://s3.example.org", setup="apt install x")
    assert [step.name for step in plan.setup] == ["store", "machine", "setup"]
    assert plan.setup[0].argv == ["env", "CLOUDRUN_INSTALL=boto3", *plan.setup[1].argv]
    assert plan.store_uri == "s3://bucket/leaves/plants-1124-x7k2m"
    assert [step.name for step in a_plan(gpu="A100:1").setup] == ["machine"]


def test_several_machines_are_rented_together_and_all_run_the_worker() -> None:
    plan = a_plan(gpu="A100:4", nodes=2, infra="slurm")
    assert machine_config(plan)["num_nodes"] == 2
    assert job_config(plan, "/home/u/cloudrun/r", {"A100": 4})["num_nodes"] == 2
    assert plan.command.argv[-6:] == ["--nodes", "2", "--node-rank", "{node_rank}", "--head", "{head}"]
    order = an_order(plan)
    assert (order.nodes, order.gpu_count, len(order.ports)) == (2, 4, 6)


def test_one_machine_is_asked_for_as_ever() -> None:
    plan = a_plan(gpu="A100:4")
    assert "num_nodes" not in machine_config(plan) | job_config(plan, "/r", None)
    assert "--nodes" not in plan.command.argv
