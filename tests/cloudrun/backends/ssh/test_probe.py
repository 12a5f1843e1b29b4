"""What a machine of the user's own answers about itself, and what is chosen from that."""

from __future__ import annotations

from typing import Any

import pytest

from cloudrun.backends.ssh.choice import chosen_gpus, ending_advice, folder_of, other_model, refuse_unfit
from cloudrun.backends.ssh.probe import Gpu, understood
from cloudrun.errors import NoMachine
from cloudrun.job.spec import JobSpec

ANSWER = """\
cloudrun-probe-begin
user=root
uid=0
name=autodl-container-9f3e
kernel=Linux 5.15.0
home=/root
cores=16
memory_kib=125829120
place=/root/autodl-tmp
has=rsync
has=flock
has=nvidia-smi
python=/root/miniconda3/bin/python
gpu=0, NVIDIA GeForce RTX 4090, 14, 24564, 0
gpu=1, NVIDIA GeForce RTX 4090, 14, 24564, 0
gpu=0, NVIDIA GeForce RTX 4090, 14, 24564, 40
gpu=1, NVIDIA GeForce RTX 4090, 14, 24564, 0
cloudrun-probe-end
"""


def answered(answer: str = ANSWER, host: str = "connect.westb.seetacloud.com") -> Any:
    return understood(answer.encode(), host=host)


def a_job(**keys: Any) -> JobSpec:
    return JobSpec.model_validate({"name": "own", "infra": "ssh://lab", "data": {"source": "/d"}, **keys})


def test_the_higher_load_of_two_looks_tells_whether_a_gpu_is_used() -> None:
    probed = answered()
    assert [gpu.is_used for gpu in probed.gpus] == [True, False]
    assert [gpu.index for gpu in chosen_gpus(a_job(gpu="A100:1"), probed, host="lab")] == [1]


def test_more_gpus_than_are_free_are_refused_with_what_each_does() -> None:
    with pytest.raises(NoMachine, match=r"1 free GPU of 2 wanted: GPU 0 RTX4090 is in use .*; GPU 1 RTX4090 is free"):
        chosen_gpus(a_job(gpu="A100:2"), answered(), host="lab")


def test_gpus_that_are_named_are_taken_whatever_they_do() -> None:
    gpus = chosen_gpus(a_job(gpu="A100:1", machine={"gpus": [0]}), answered(), host="lab")
    assert [gpu.index for gpu in gpus] == [0]
    with pytest.raises(NoMachine, match="no GPU 4"):
        chosen_gpus(a_job(machine={"gpus": [4]}), answered(), host="lab")


def test_a_clusters_front_is_no_place_to_train() -> None:
    front = answered(ANSWER.replace("has=nvidia-smi", "has=sbatch").replace("gpu=", "was="))
    with pytest.raises(NoMachine, match="front of a cluster"):
        chosen_gpus(a_job(gpu="A100:1"), front, host="lab")


@pytest.mark.parametrize(
    ("driver", "job"),
    [
        ("NVIDIA GeForce RTX 4090", "RTX4090"),
        ("NVIDIA GeForce RTX 2080 Ti", "RTX2080Ti"),
        ("NVIDIA A100-SXM4-80GB", "A100-80GB-SXM"),
        ("NVIDIA A100 80GB PCIe", "A100-80GB"),
        ("Tesla T4", "T4"),
        ("Tesla V100-SXM2-16GB", "V100"),
        ("NVIDIA H100 80GB HBM3", "H100-SXM"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA RTX A6000", "RTXA6000"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX6000-Ada"),
    ],
)
def test_the_drivers_name_of_a_gpu_becomes_the_name_that_jobs_use(driver: str, job: str) -> None:
    assert Gpu(0, driver, 0, 1, 0).model == job


def test_another_model_than_the_job_names_is_said() -> None:
    gpus = chosen_gpus(a_job(gpu="A100:1"), answered(), host="lab")
    assert other_model(a_job(gpu="A100:1"), gpus) == "`gpu` names A100, and this machine has RTX4090: it is used"
    assert other_model(a_job(gpu=["A100:1", "RTX4090:1"]), gpus) == ""


def test_the_folder_is_on_the_disk_that_lasts() -> None:
    assert folder_of(a_job(), answered()) == "/root/autodl-tmp/cloudrun"
    assert folder_of(a_job(), answered(ANSWER.replace("place=", "was="))) == "/root/cloudrun"
    assert folder_of(a_job(machine={"folder": "~/big"}), answered()) == "/root/big/cloudrun"


def test_a_platform_that_bills_until_it_is_off_is_said() -> None:
    assert "AutoDL, which bills until the machine is off: `--set end='shutdown'`" in ending_advice(a_job(), answered())
    assert ending_advice(a_job(end="shutdown"), answered()) == ""
    own = answered(ANSWER.replace("autodl-container-9f3e", "lab7"), host="lab7")
    assert ending_advice(a_job(), own) == ""
    featurize = answered(ANSWER.replace("/root/autodl-tmp", "/home/featurize/work"), host="workspace.featurize.cn")
    assert "`end: featurize instance release`" in ending_advice(a_job(end="shutdown"), featurize)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("", "runs no commands: it said nothing"),
        ("Error: only the basic terminal is supported\n", "runs no commands: Error: only the basic"),
        (f"Welcome!\n{ANSWER}", "prints 'Welcome!' before each command"),
        (ANSWER.replace("Linux 5.15.0", "Darwin 24.1"), "runs Darwin 24.1"),
        (ANSWER.replace("has=rsync\n", ""), "has no `rsync`"),
        (ANSWER.replace("python=/root/miniconda3/bin/python\n", ""), "no Python 3.10 or newer"),
    ],
)
def test_a_machine_that_is_not_fit_is_refused_before_anything_is_sent(answer: str, said: str) -> None:
    with pytest.raises(NoMachine) as refused:
        refuse_unfit(answered(answer), host="lab")
    assert said in refused.value.message
    assert refused.value.hint


def test_odd_answers_about_gpus_are_no_gpus() -> None:
    assert answered(ANSWER.replace("gpu=0, NVIDIA GeForce RTX 4090, 14, 24564, 0", "gpu=No devices")).gpus != ()
    assert answered(ANSWER.replace("gpu=", "gpu=x, ")).gpus == ()
