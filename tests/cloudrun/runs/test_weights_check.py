"""Weights that a run on this computer could not have: said before anything is started."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudrun.errors import JobFileError
from cloudrun.job.job_file import Job, load_job
from cloudrun.runs.weights_check import check_folder, check_hub


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """A job that trains resnet18 on this computer, whose caches are empty and whose hub nobody serves."""
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "HF_HUB_OFFLINE", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    path = tmp_path / "job.yaml"
    path.write_text("infra: local\ndata: {source: plants}\ntrain: {backbones: resnet18}\n")
    return load_job(path)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("HF_ENDPOINT", address)
        yield address


def again(job: Job, *overrides: str) -> Job:
    return load_job(job.path, overrides=overrides)


def test_weights_from_a_hub_that_cannot_be_reached_are_refused(job: Job) -> None:
    with pytest.raises(
        JobFileError, match=r"weights of resnet18, and this computer cannot reach 127.0.0.1:9"
    ) as caught:
        check_hub(job)
    assert "false (random weights)" in caught.value.hint


def test_weights_that_need_no_download_are_not_asked_for(job: Job) -> None:
    check_hub(again(job, "train.pretrained=false"))
    check_hub(again(job, "infra=aws"))


def test_a_hub_that_answers_is_enough(job: Job, hub: str) -> None:
    check_hub(job)


def test_a_hub_that_is_switched_off_is_said(job: Job, hub: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(JobFileError, match="`HF_HUB_OFFLINE` is set"):
        check_hub(job)


@pytest.mark.parametrize(
    "cached",
    [
        "hf/hub/models--timm--resnet18.a1_in1k/snapshots/0/model.safetensors",
        "hf/hub/models--facebook--another/snapshots/0/model.safetensors",
        "torch/hub/checkpoints/resnet18-5c106cde.pth",
    ],
)
def test_weights_that_may_be_in_a_cache_are_left_to_timm(job: Job, tmp_path: Path, cached: str) -> None:
    (tmp_path / cached).parent.mkdir(parents=True)
    (tmp_path / cached).touch()
    check_hub(job)


def test_other_weights_in_the_cache_do_not_help(job: Job, tmp_path: Path) -> None:
    other = tmp_path / "hf/hub/models--timm--resnet18d.ra2_in1k/snapshots/0/model.safetensors"
    other.parent.mkdir(parents=True)
    other.touch()
    with pytest.raises(JobFileError, match="weights of resnet18"):
        check_hub(job)


def test_a_folder_without_the_weights_is_named(job: Job, tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    with pytest.raises(JobFileError, match=r"`train.pretrained`: .*weights has no weights for `resnet18`"):
        check_folder(again(job, f"train.pretrained={tmp_path / 'weights'}"))
