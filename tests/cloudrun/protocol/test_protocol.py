"""The protocol's room: names stand nowhere else, both sides read what is written, no old sign outlives an attempt."""

from __future__ import annotations

import ast
import dataclasses
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

import cloudrun
from cloudrun.protocol import messages, outputs, run_folder, words
from cloudrun.protocol.messages import Heartbeat, JobProgress, Result, Span, StopRequest, Timing
from cloudrun.protocol.nodes import Instruction, News
from cloudrun.protocol.run_folder import LEFT_BY_AN_ATTEMPT, RunFolder
from cloudrun.protocol.words import EndReason, NodeState, NodeTask, WorkerPhase
from cloudrun.state import received, run
from tests.support.orders import an_order

PACKAGE = Path(cloudrun.__file__).parent

EXAMPLE_OF_ADVISE = (
    "Example:\n\n  cloudrun advise jobs/plants.yaml\n\n  cloudrun advise --deadline 2h --max-cost 3 job.yaml\n"
)
# Modules in which such a word means something else; each with what it means there.
OTHER_MEANINGS = {
    "notices/payload.py": {"code"},  # of the answers of Feishu
    "catalog/infras.py": {"slurm"},  # names of clouds, here and in the next ones
    "backends/skypilot/listing.py": {"slurm", "stopped", "data"},  # what providers answer
    "backends/live_price.py": {"data"},
    "backends/skypilot/keys.py": {"slurm"},
    "backends/ssh/backend.py": {"budget"},  # a key of the job file
    "backends/ssh/choice.py": {"/home/featurize/work"},  # a platform's folder, here and in the next one
    "backends/ssh/probe.py": {"/home/featurize/work", "home"},
    "cli/advise.py": {EXAMPLE_OF_ADVISE},
    "cli/dashboard/app.py": {"down"},  # a command, here and in the next ones
    "cli/dashboard/run_screen.py": {"down"},
    "cli/watch.py": {"down"},
    "cli/live_view.py": {"data"},  # the name of a stage
    "cli/machines.py": {"command"},  # a key of an answer
    "imagedata/soft_labels.py": {
        "the header is image, then a column for each class; or name an oof.csv or a predictions.csv",
        "name the oof.csv of a run with `folds`; a predictions.csv is for images without labels",
    },  # the files of another run
    "job/own_machine.py": {"leave"},  # what a job file may say
    "render/running.py": {"data", "budget"},  # the names of a stage and of a key
    "runs/environments.py": {"venv"},  # a command of uv
    "runs/trained.py": {"data"},  # a key of the job file
    "worker/image_torch.py": {"/venv/main/bin/python"},  # a place in the images of a provider
    "worker/notice.py": {"/computeMetadata/v1/instance/preempted", "stop"},  # words of clouds
    "backends/skypilot/task.py": {"run"},  # a key of SkyPilot's task
    "cli/data.py": {"data"},  # the name of a command, or a key of an answer
    "cli/groups.py": {"run", "start", "stop", "down", "watch", "data"},  # commands, and what others call them
    "cli/jobs.py": {"data"},
    "imagedata/label_table.py": {"data"},  # a name that people give to columns and folders, here and in the next one
    "imagedata/vocabulary.py": {"data", "checkpoints", "venv"},
    "job/job_yaml.py": {"run"},  # a key of the job file
    "runs/doctor.py": {"skypilot"},  # a package
    "catalog/endings.py": {"slurm"},
    "forecast/estimate.py": {"slurm", "sync", "run"},  # parts of an estimate; the word in a sentence
    "job/job_file.py": {"data", "workdir"},  # keys of the job file
    "packs/layout.py": {"data/", "data/packs/", "data/manifests/", "data/refs/", "data/doomed/"},  # keys of a store
    "job/plan.py": {"budget", "data", "command"},  # keys of what `--dry-run` shows, and the name of a step
    "billing/receipt.py": {"skypilot", "budget"},  # keys of a job and of a receipt
    "render/receipt_text.py": {"skypilot"},
    "render/report/settings.py": {"run"},  # a key of the job file
    "render/pages/one.py": {"budget"},  # the same
    "render/pages/runs.py": {"run"},  # a column
    "ui/site.py": {"run"},  # a part of an address, and a name in it
    "state/records.py": {"failed", "stopped", "preempted", "budget"},  # `Phase` and `JobState` have words of their own
    "job/spec.py": {"slurm", "down", "stop", "keep"},  # what a job file may say
    "job/workdir.py": {"venv"},  # a folder of the user's that is never code
    "worker/node.py": {"data"},  # the name of a thread
    "worker/attempt.py": {"finished"},  # a message
}


def _names() -> set[str]:
    """All file names and words of the protocol."""
    constants = [value for module in (run_folder, outputs) for name, value in vars(module).items() if name.isupper()]
    texts = {text for value in constants for text in (value if isinstance(value, tuple) else [value])}
    kinds = [kind for _, kind in inspect.getmembers(words, inspect.isclass) if issubclass(kind, words.Word)]
    texts |= {word.value for kind in kinds for word in kind if kind is not words.NodeState}
    return {text for text in texts if text} | {"watchdog", "venv"}


def _quoted(path: Path) -> Iterator[tuple[int, str]]:
    """The texts of a module that are not documentation; of an f-string its parts."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documents = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documents:
            yield node.lineno, node.value


def _is_protocol(text: str, names: set[str]) -> bool:
    """Whether it is a name, a path with one, or a text that has a name of a file with a suffix in it."""
    parts = [part for part in text.split("/") if part]
    if text in names or (len(parts) > 1 and " " not in text and any(part in names for part in (parts[0], parts[-1]))):
        return True
    return any(name in text for name in names if "." in name)


def test_a_name_of_the_protocol_is_quoted_nowhere_else() -> None:
    names = _names()
    assert {"result.json", "stop", "checkpoints/best.pt", "no_gpu", "prepare"} <= names
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if not name.startswith("protocol/"):
            allowed = OTHER_MEANINGS.get(name, set())
            found += [
                f"{name}:{line}: {text}"
                for line, text in _quoted(path)
                if _is_protocol(text, names) and text not in allowed
            ]
    assert found == []


def test_each_other_meaning_is_still_there() -> None:
    for name, meant in OTHER_MEANINGS.items():
        assert meant <= {text for _, text in _quoted(PACKAGE / name)}, name


def test_each_name_of_a_file_is_a_property_of_the_folder(tmp_path: Path) -> None:
    files = RunFolder(tmp_path)
    named = {getattr(files, name).name for name, one in vars(RunFolder).items() if isinstance(one, property)}
    constants = {value for name, value in vars(run_folder).items() if name.isupper() and isinstance(value, str)}
    assert named == constants | {"venv"}


def test_all_signals_and_answers_are_left_by_an_attempt() -> None:
    """A new signal has to be thought of here: an old one that the next attempt obeys costs money."""
    kept = {
        *(run_folder.ORDER, run_folder.CODE, run_folder.WORKDIR, run_folder.TRAIN_CONFIG, run_folder.LABELS),
        *(run_folder.WEIGHTS, run_folder.DATA, run_folder.OUT, run_folder.LOG, run_folder.LOG_INDEX),
        *(run_folder.ATTEMPT_PID, run_folder.ATTEMPT_LOCK, run_folder.UPLOADS, run_folder.CERTIFICATE),
        *(run_folder.LOCAL_LOCK, run_folder.LOCAL_PID, run_folder.LOCAL_ERRORS),
    }
    constants = {value for name, value in vars(run_folder).items() if name.isupper() and isinstance(value, str)}
    assert constants - kept == set(LEFT_BY_AN_ATTEMPT)


def test_what_the_worker_writes_both_sides_read(tmp_path: Path) -> None:
    span = Span.between("prepare", 1_000.0, 1_002.5)
    written = Result(EndReason.NO_DATA, 1, "nothing came", span.began_at, span.ended_at, (span,))
    written.write(tmp_path / "result.json")
    assert Result.read(tmp_path / "result.json") == written
    at_home = received.result_from((tmp_path / "result.json").read_bytes())
    assert (at_home.reason, at_home.exit_code, at_home.phase) == (EndReason.NO_DATA, 1, run.Phase.FAILED)
    assert at_home.phases == (span.as_plain(),)

    beat = Heartbeat(WorkerPhase.SYNC, span.ended_at, span.began_at, 1_002.5, (span,))
    beat.write(tmp_path / "status.json")
    assert Heartbeat.read(tmp_path / "status.json") == beat
    assert received.progress_from((tmp_path / "status.json").read_bytes()).phase == "sync"

    StopRequest(EndReason.BUDGET, "used").write(tmp_path / "stop")
    assert StopRequest.read(tmp_path / "stop") == StopRequest(EndReason.BUDGET, "used")


def test_the_laptops_models_have_the_fields_that_the_worker_writes() -> None:
    for writer, reader in ((messages.Result, run.Result), (messages.Question, received.Question)):
        assert {field.name for field in dataclasses.fields(writer)} == set(reader.model_fields)
    corrected = messages.CorrectedEstimate(1.0, 2.0, "3 steps")
    beat = Heartbeat(WorkerPhase.RUN, "", "", 0.0, (), JobProgress({"epoch": 1, "epochs": 2, "eta_s": 3.0}), corrected)
    known = {*run.Progress.model_fields, "phase_began"}
    assert set(beat.as_plain()) <= known
    assert set(run.Progress.model_fields) - set(beat.as_plain()) == {
        "detail",  # of an older worker
        *("step", "steps", "loss", "images_per_s"),  # of a trainer that has made a step
    }


def test_a_person_asks_to_stop_by_an_empty_file(tmp_path: Path) -> None:
    assert StopRequest.read(tmp_path / "stop") is None
    (tmp_path / "stop").touch()
    assert StopRequest.read(tmp_path / "stop") == StopRequest()
    (tmp_path / "stop").write_text('{"reason": "because", "message": 5}')
    assert StopRequest.read(tmp_path / "stop") == StopRequest(None, "5")


@pytest.mark.parametrize("reason", list(EndReason))
def test_each_reason_ends_a_run_in_a_final_phase(reason: EndReason) -> None:
    at_home = received.result_from(
        f'{{"reason": "{reason}", "exit_code": 1, "message": "", "started_at": "2026-11-24T12:00:00Z",'
        ' "finished_at": "2026-11-24T12:00:00Z"}'.encode()
    )
    assert at_home.reason is reason
    assert at_home.phase.is_final


def test_a_timing_that_nobody_can_have_measured_is_none() -> None:
    plain = {
        "timed_steps": 20, "timed_s": 4.0, "steps_left": 80, "evaluation_left_s": 1.0, "steps_per_epoch": 50,
        "evaluation_is_measured": True,
    }  # fmt: skip
    assert Timing.read(plain) == Timing(20, 4.0, 80, 1.0, 50, evaluation_is_measured=True)
    for key, value in (("timed_steps", 0), ("timed_s", float("nan")), ("steps_left", -1), ("timed_s", "many")):
        assert Timing.read(plain | {key: value}) is None
    assert Timing.read([plain]) is None


def test_the_machines_of_a_run_understand_one_another() -> None:
    news = News(2, NodeState.ENDED, Result(EndReason.STALLED, 1, "no step", "", ""), ("a line",))
    assert News.read(news.as_plain()) == news
    told = Instruction(NodeTask.BEGIN, "10.0.0.1:2000", has_data=True, has_weights=False, mark=".shared-1")
    assert Instruction.read(told.as_plain()) == told
    with pytest.raises(OSError, match="not understood"):
        Instruction.read({"do": "dance"})


def test_an_order_comes_back_as_it_was_written(tmp_path: Path) -> None:
    from cloudrun.protocol.order import read_order

    order = an_order("true", ending=words.MachineEnding.SKYPILOT)
    RunFolder(tmp_path).order.write_text(order.as_json())
    again = read_order(RunFolder(tmp_path).order)
    assert again == order
    assert again.identity() == order.identity()
    assert again.ending is words.MachineEnding.SKYPILOT
