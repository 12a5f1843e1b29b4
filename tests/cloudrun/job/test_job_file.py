"""Job files: what is wrong is said in one line, with its place and what to do, before anything starts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cloudrun.dataset.survey import survey_folder
from cloudrun.errors import JobFileError
from cloudrun.job.job_file import load_job
from cloudrun.job.spec import JobSpec
from tests.support.checkout import CHECKOUT


def write(folder: Path, text: str) -> Path:
    path = folder / "job.yaml"
    path.write_text(text)
    return path


GOOD = "data: {source: demo://leaves}\n"


@pytest.mark.parametrize(
    ("text", "place", "message", "hint"),
    [
        (GOOD + "gpus: [A100:1]\n", ":2", "unknown key `gpus`", "did you mean `gpu`?"),
        (GOOD + "train:\n  epoch: 3\n", ":3", "unknown key `epoch`", "did you mean `epochs`?"),
        (GOOD + "train:\n  epochs: ten\n", ":3", '`train.epochs` is "ten", not a whole number', "default, 30"),
        (GOOD + "train:\n  dropout: 1.5\n", ":3", "`train.dropout` is 1.5; it must be at most", "default"),
        (GOOD + "train:\n  backbones: [resnet5]\n", ":3", '"resnet5" is not a model that timm has', "`resnet"),
        (GOOD + "gpu: [A100:1, RTX-4090]\n", ":2", "no cloud has a GPU `RTX-4090`", "did you mean `RTX4090`"),
        (GOOD + "gpu: A100:0\n", ":2", "asks for 0 GPUs", ""),
        (GOOD + "infra: mars\n", ":2", '"mars" is not an infra', ""),
        (GOOD + "budget: {max_cost: -1}\n", ":2", "must be more than 0", ""),
        (GOOD + "resources: {memory: lots}\n", ":2", '"lots" is not an amount', ""),
        (GOOD + "secrets: [MY-KEY]\n", ":2", "MY-KEY", ""),
        (GOOD + "env: {A: x}\nsecrets: [A]\n", "", "in `env` and in `secrets`", ""),
        (GOOD + "train: {device: cuda}\n", "", "no `gpu` is asked for", ""),
        (GOOD + "spot: maybe\n", ":2", "not true or false", ""),
        ("name: x\n", "", "data", ""),
        ("data: {source: ftp://x}\n", ":1", '"ftp://" is not a source', ""),
        ("data: {source: demo://trees}\n", ":1", "demo://leaves", ""),
        ("data:\n  source: a\n  source: b\n", ":3", "duplicate key `data.source`", "keep one"),
        ("data: {source: [\n", ":2", "not valid YAML", ""),
        ("- a\n- b\n", ":1", "a mapping of keys", ""),
        ("", "", "is empty", ""),
    ],
)
def test_a_mistake_is_named_with_its_line_and_a_hint(
    tmp_path: Path, text: str, place: str, message: str, hint: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(JobFileError) as caught:
        load_job(path)
    assert caught.value.message.startswith(f"{path}{place}")
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert "\n" not in caught.value.message


def test_an_override_wins_over_the_file_and_is_named_when_it_is_wrong(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD + "train: {epochs: 3}\n")
    job = load_job(path, overrides=["train.epochs=5", "train.lr=1e-3"], options={"gpu": ["a100"]})
    assert (job.spec.train.epochs, job.spec.train.lr, job.spec.gpu) == (5, 1e-3, ("A100:1",))
    with pytest.raises(JobFileError, match=r"--set train.epochs=x: `train.epochs`"):
        load_job(path, overrides=["train.epochs=x"])


def test_knobs_outside_their_range_are_allowed_with_a_warning(tmp_path: Path) -> None:
    job = load_job(write(tmp_path, GOOD + "train: {weight_decay: 0.5, label_smoothing: 0.4}\n"))
    assert len(job.warnings) == 2
    assert "weight_decay" in job.warnings[0] + job.warnings[1]


def test_gpus_that_would_have_hardly_an_image_each_are_refused_and_with_few_warned_of(tmp_path: Path) -> None:
    assert load_job(write(tmp_path, GOOD + "gpu: [A100:1, RTX4090:4]\n")).warnings == ()
    few = load_job(write(tmp_path, GOOD + "gpu: [A100:1, RTX4090:4]\ntrain: {batch_size: 32}\n"))
    (warning,) = few.warnings
    assert warning == (
        "`RTX4090:4` shares a batch of 32: with 8 images each, the GPUs mostly wait; "
        "16 or more each is sensible, a `train.batch_size` of 64"
    )
    (of_nodes,) = load_job(write(tmp_path, GOOD + "gpu: A100:1\nnodes: 2\ntrain: {batch_size: 16}\n")).warnings
    assert of_nodes.startswith("2 machines with `A100:1` share a batch of 16: with 8 images each, the GPUs mostly wait")
    with pytest.raises(JobFileError, match=r"`RTX4090:8` cannot share a batch of 16 images") as caught:
        load_job(write(tmp_path, GOOD + "gpu: [A100:1, RTX4090:8]\ntrain: {batch_size: 16}\n"))
    assert "`train.batch_size` to 32 or more" in caught.value.hint
    own = load_job(write(tmp_path, GOOD + "gpu: RTX4090:8\ntrain: {batch_size: 16}\nrun: torchrun train.py\n"))
    assert own.warnings == ()


def test_folders_are_relative_to_the_job_file(tmp_path: Path) -> None:
    job = load_job(write(tmp_path, "data: {source: ../plants}\n"))
    assert job.spec.data.source == str((tmp_path / "../plants").resolve())


def test_the_name_comes_from_the_file_when_none_is_given(tmp_path: Path) -> None:
    path = tmp_path / "2024 Plant_Pathology!.yaml"
    path.write_text(GOOD)
    assert load_job(path).spec.name == "plant-pathology"


def test_a_resolved_job_loads_to_the_same_job(tmp_path: Path) -> None:
    spec = load_job(write(tmp_path, GOOD + "gpu: [A100:1, RTX4090:1]\nbudget: {max_cost: 2}\n")).spec
    assert JobSpec.model_validate(spec.as_plain()) == spec


@pytest.mark.parametrize("name", ["demo.yaml", "plants.yaml"])
def test_the_job_files_that_come_with_it_are_valid(name: str) -> None:
    job = load_job(CHECKOUT / "jobs" / name)
    assert job.warnings == ()


def test_checking_a_job_imports_neither_torch_nor_sky_nor_boto3(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    code = (
        "import sys; from pathlib import Path; from cloudrun.job.job_file import load_job\n"
        "import cloudrun.cli.main, cloudrun.dataset.survey\n"
        f"load_job(Path({str(path)!r}))\n"
        "print(sorted({'torch', 'sky', 'boto3', 'numpy', 'timm'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


class TestDataFolder:
    def test_a_good_folder_is_counted(self, leaves: Path) -> None:
        survey = survey_folder(leaves, custom=False)
        assert survey is not None
        assert survey.rows() == [["healthy", "3"], ["rust", "3"]]

    def test_a_missing_folder_names_its_neighbours(self, leaves: Path) -> None:
        with pytest.raises(JobFileError) as caught:
            survey_folder(leaves.parent / "leafs", custom=False)
        assert "there is no folder" in caught.value.message
        assert "leaves" in caught.value.hint

    def test_an_empty_class_is_named(self, leaves: Path) -> None:
        (leaves / "scab").mkdir()
        with pytest.raises(JobFileError, match="scab has no images"):
            survey_folder(leaves, custom=False)

    @pytest.mark.parametrize(
        ("content", "why"), [(b"", "empty"), (b"not an image at all", "unrecognised image format"), (None, "truncated")]
    )
    def test_an_unreadable_image_is_named(self, leaves: Path, content: bytes | None, why: str) -> None:
        image = leaves / "rust" / "1.jpg"
        image.write_bytes(image.read_bytes()[:-200] if content is None else content)
        with pytest.raises(JobFileError, match=f"(?i)1.jpg cannot be read.*{why}"):
            survey_folder(leaves, custom=False)

    def test_the_data_of_a_users_own_command_may_be_anything(self, tmp_path: Path) -> None:
        assert survey_folder(tmp_path, custom=True) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("infra: local\nnodes: 2\n", "`nodes` is 2, and `infra: local` is one computer"),
        ("nodes: 0\n", "nodes"),
        ("nodes: yes\n", "nodes"),
        (
            "gpu: A100:8\nnodes: 4\ntrain: {batch_size: 32}\n",
            "4 machines with `A100:8` cannot share a batch of 32 images",
        ),
    ],
)
def test_several_machines_have_to_make_sense(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(JobFileError) as caught:
        load_job(write(tmp_path, GOOD + text))
    assert said in caught.value.message


def test_a_job_file_that_does_not_exist_names_each_other_one_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "demo.yaml").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(JobFileError) as caught:
        load_job(Path("jobs/none.yaml"))
    assert caught.value.hint == "job files here: jobs/demo.yaml"


LAUGHS = "l0: &l0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]\n" for n in range(1, 10)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD + LAUGHS, "more than 5,000 values"),
        (GOOD + "x: " + "[" * 3000, ":2: more than 16 levels"),
        ("data: &a [*a]\n", ":1: more than 16 levels"),
        (GOOD + "a: &a {b: 1}\n" + "c: {<<: [[*a]]}\n", ":3: `<<` merges something that is no mapping"),
        (GOOD + "".join(f"k{n}: 1\n" for n in range(60_000)), "larger than 256 kB"),
        (GOOD + "".join(f"k{n}: 1\n" for n in range(6_000)), "more than 5,000 values"),
        (GOOD + "nodes: !!int x\n", ":2: the tag `!!int` on `x`"),
        (GOOD + "spot: !!bool x\n", ":2: the tag `!!bool` on `x`"),
        (GOOD + "name: !!timestamp x\n", ":2: the tag `!!timestamp` on `x`"),
        (GOOD + "secrets: !!set {A, B}\n", ":2: the tag `!!set`"),
        (GOOD + "name: !!binary aGk=\n", ":2: the tag `!!binary`"),
        (GOOD + "name: !!python/object/apply:os.system [ls]\n", ":2: the tag `!!python/object/apply:os.system`"),
        (GOOD + "? [a]\n: b\n", ":2: a list as a key"),
        (GOOD + "~: b\n", ":2: unknown key `~`"),
        (GOOD + "on: b\n", ":2: unknown key `on`"),
        (GOOD + 'name: "\\ud800"\n', ":2: `name` contains U+D800"),
        (GOOD + 'workdir: "a\\0b"\nrun: ls\n', ":2: `workdir` contains the control character U+0000"),
        (GOOD + 'name: "\\e[2J"\n', ":2: `name` contains the control character U+001B"),
        ('data: {source: "demo://\\nleaves"}\n', ":1: `data.source` contains the control character U+000A"),
        (GOOD + '"\\e[2J": 1\n', "contains the control character U+001B"),
        (GOOD + 'name: "\\UFFFFFFFF"\n', "not valid YAML"),
        (GOOD + "name: a\x07b\n", ":2: not valid YAML: it contains the character U+0007"),
        (f"data: {{source: {'a' * 5000}}}\n", ":1: `data.source` has a text of 5,000 letters"),
        (f"data: {{source: {'a' * 300}}}\n", "File name too long"),
        ("data: {source: ~nobody-of-that-name/x}\n", "`data.source`: ~nobody-of-that-name/x is no name of a file"),
        (GOOD + f"name: {'a' * 900}\n", "..."),
        (GOOD + f"seed: {'9' * 400}\n", "unknown key `seed`"),
        (GOOD + f"nodes: {'9' * 5000}\n", "a text of 5,000 letters"),
    ],
)
def test_a_hostile_job_file_is_refused_with_one_short_line(tmp_path: Path, text: str, said: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(JobFileError) as caught:
        load_job(path)
    assert said in caught.value.message
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 1000
    assert caught.value.message.isprintable()


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("train: {epochs: 010}\n", '`train.epochs` is "010", not a whole number', "without 0 before it"),
        ("train: {epochs: 0x1F}\n", '`train.epochs` is "0x1F", not a whole number', "with the digits 0 to 9"),
        ("budget: {max_hours: 1:30}\n", '`budget.max_hours` is "1:30", not a number', "one number, as in 1.5"),
        ("name: 2026-11-28\n", '"2026-11-28" cannot be a name', "`2026-11-28` was read as a text"),
        ("name: on\n", "`name` is true, not a text", "YAML reads `on` as true; for the text write 'on'"),
        ("nodes: yes\n", "`nodes` is true", "YAML reads `yes` as true"),
        (f"nodes: {'9' * 19}\n", "not a whole number", "at most 18 digits"),
        ("budget: {max_cost: .nan}\n", "`budget.max_cost` is nan, not a finite number", "default"),
        ("budget: {max_cost: .inf}\n", "`budget.max_cost` is inf, not a finite number", "default"),
    ],
)
def test_what_yaml_reads_in_another_way_than_it_looks_is_said(
    tmp_path: Path, text: str, message: str, hint: str
) -> None:
    with pytest.raises(JobFileError) as caught:
        load_job(write(tmp_path, GOOD + text))
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_a_value_of_env_is_its_letters_as_they_stand_there(tmp_path: Path) -> None:
    env = "{A: 1.10, B: 0123, C: yes, D: 2026-11-28, E: 1:30, F: 1_000, G: true, H: 1e-4, I: 'x y'}"
    job = load_job(write(tmp_path, GOOD + f"env: {env}\n"), overrides=["env.J=007", "env.K=on"])
    assert job.spec.env == {
        "A": "1.10", "B": "0123", "C": "yes", "D": "2026-11-28", "E": "1:30", "F": "1_000", "G": "true", "H": "1e-4",
        "I": "x y", "J": "007", "K": "on",
    }  # fmt: skip


def test_an_alias_and_a_merge_are_understood_and_each_place_is_its_own(tmp_path: Path) -> None:
    text = "data: {source: demo://leaves}\nresources: &r {cpus: 4}\ntrain: {<<: {seed: 1, epochs: 3}, epochs: 5}\n"
    job = load_job(write(tmp_path, text))
    assert (job.spec.train.seed, job.spec.train.epochs) == (1, 5)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.epochs=010", 'is "010", not a whole number'),
        ("nodes=!!int x", "the tag `!!int`"),
        ("name=\ud800", "half of a pair of surrogates"),
        ('name="\\ud800"', "half of a pair of surrogates"),
        ("a..b=1", "is no key"),
        ("." * 300 + "=1", "is no key"),
        ("x=" + "[" * 3000, "more than 16 levels"),
        ("data.source=" + "a" * 5000, "5,000 letters"),
        ("gpu.0=1", "`gpu` has no keys of its own"),
    ],
)
def test_a_hostile_override_is_refused_and_named(tmp_path: Path, override: str, said: str) -> None:
    with pytest.raises(JobFileError) as caught:
        load_job(write(tmp_path, GOOD + "gpu: A100:1\n"), overrides=[override])
    assert caught.value.message.startswith("--set ")
    assert said in caught.value.message
    assert len(caught.value.message) < 700


def test_a_job_file_without_end_is_refused() -> None:
    with pytest.raises(JobFileError, match="/dev/zero is larger than 256 kB"):
        load_job(Path("/dev/zero"))
    with pytest.raises(JobFileError, match="/dev/null is empty"):
        load_job(Path("/dev/null"))
