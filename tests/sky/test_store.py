"""A rented machine with a bucket: the images go there first, and only what is new."""

from __future__ import annotations

import os
import re

import pytest

from tests.sky.jobs import QUICK, launch
from tests.sky.slurm_cluster import SlurmCluster
from tests.support.seaweedfs import BUCKET, SeaweedFS
from tests.support.shell import Shell

pytestmark = pytest.mark.sky


def test_the_machine_takes_the_images_from_the_store_and_the_next_launch_sends_what_is_new(
    shell: Shell, slurm: SlurmCluster, seaweedfs: SeaweedFS
) -> None:
    shell.env.update(seaweedfs.env)
    store = f"s3://{BUCKET}/{shell.folder.name}"
    extra = f"store: {store}\nendpoint: {seaweedfs.endpoint}\nsecrets: [AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY]\n"
    job = extra + QUICK.replace("  ls $CLOUDRUN_DATA\n", "  (cd $CLOUDRUN_DATA; find . -type f | xargs sha256sum)\n")
    (shell.folder / "leaves" / "rust" / "extra.bin").write_bytes(os.urandom(9_000_000))

    code, run_id, said = launch(shell, shell.job(job))
    assert code == 0, said
    files = [path for path in (shell.folder / "leaves").rglob("*") if path.is_file()]
    assert re.search(rf"cloudrun: {len(files)} files, .* in {store}; \d+ files were new there", said)
    log = (shell.folder / "runs" / run_id / "log.txt").read_text()
    assert re.search(rf"cloudrun: data: {len(files)} files, .* from the store in .*, each verified", log)
    for path in files:
        assert f"./{path.relative_to(shell.folder / 'leaves')}" in log

    (shell.folder / "leaves" / "rust" / "new.bin").write_bytes(b"new")
    again = shell("launch", "--yes", "--dry-run", shell.job(job))
    assert again.code == 0, again.err
    assert "through store" in again.out
    assert f"sends    1 of {len(files) + 1} files, 3 B (the others are in the store)" in again.out
    code, run_id, said = launch(shell, shell.job(job))
    assert code == 0, said
    assert f"{len(files) + 1} files, 9.0 MB in {store}; 1 files were new there" in said
    assert "./rust/new.bin" in (shell.folder / "runs" / run_id / "log.txt").read_text()
    assert slurm.squeue() == []


def test_images_that_are_broken_in_the_store_end_the_run_with_their_name(
    shell: Shell, slurm: SlurmCluster, seaweedfs: SeaweedFS
) -> None:
    shell.env.update(seaweedfs.env)
    prefix = shell.folder.name
    extra = f"store: s3://{BUCKET}/{prefix}\nendpoint: {seaweedfs.endpoint}\n"
    extra += "secrets: [AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY]\n"
    client = seaweedfs.client()
    push = shell("data", "push", "leaves", f"s3://{BUCKET}/{prefix}", "--endpoint", seaweedfs.endpoint)
    assert push.code == 0, push.err
    (pack,) = client.list_objects_v2(Bucket=BUCKET, Prefix=f"{prefix}/data/packs/")["Contents"]
    content = bytearray(client.get_object(Bucket=BUCKET, Key=pack["Key"])["Body"].read())
    content[300] ^= 1
    client.put_object(Bucket=BUCKET, Key=pack["Key"], Body=bytes(content))

    code, _, said = launch(shell, shell.job(extra + QUICK))
    assert code == 1
    assert re.search(r"no_data: .*arrives damaged \(sha256 differs\): pack", said), said
    verified = shell("data", "verify", f"s3://{BUCKET}/{prefix}", "--endpoint", seaweedfs.endpoint, "--remove")
    assert verified.code == 1
    assert "its bytes are not what its name says; removed" in verified.out
    assert slurm.squeue() == []
