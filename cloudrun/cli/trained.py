"""Commands that use a fetched run's model on this computer: `predict`, `submit`, `export`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from cloudrun.cli import completion
from cloudrun.cli.app import app
from cloudrun.cli.console import answer, answer_json, confirm, may_ask, note, say, warn
from cloudrun.cli.groups import RESULTS
from cloudrun.errors import ExitCode, UsageError
from cloudrun.protocol.outputs import PREDICTIONS

if TYPE_CHECKING:
    from cloudrun.runs.trained import TrainedRun

STDOUT = "-"

# By format: what it needs beside the trainer's packages, as module and requirement.
_EXPORT_PACKAGES: dict[str, tuple[tuple[str, str], ...]] = {
    "safetensors": (),
    "onnx": (("onnx", "onnx==1.23.2"), ("onnxscript", "onnxscript==0.7.2"), ("onnxruntime", "onnxruntime==1.32.0")),
    "torch": (),
}

TrainedArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="Run id or its start, `last`, or the folder of a run.", autocompletion=completion.run_ids
    ),
]
TtaOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="Test-time augmentation. [default: as in the training]")
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


@app.command(
    rich_help_panel=RESULTS,
    epilog="Example:\n\n  cloudrun predict last ../data/plants/test\n\n"
    "  cloudrun predict last test.csv --image-folder images --out -\n",
)
def predict(  # noqa: PLR0913 - each is an option of the command
    run_id: TrainedArgument,
    images: Annotated[
        Path, typer.Argument(metavar="IMAGES", help="A folder, an image, a list of paths, or a CSV file of ids.")
    ],
    out: Annotated[
        str | None, typer.Option(metavar="FILE", help="CSV file to write; - is stdout. [default: in the run's folder]")
    ] = None,
    image_folder: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where a list's images are. [default: beside the list]")
    ] = None,
    fold: Annotated[int | None, typer.Option(min=0, metavar="N", help="This fold alone. [default: all]")] = None,
    tta: TtaOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> int:
    """Predict images on this computer with a fetched run's best model; with folds, with all of them."""
    from cloudrun.imagedata.image_list import images_at

    run = _trained(run_id)
    found = images_at(images, folder=image_folder)
    if out == STDOUT and as_json:
        raise UsageError("`--out -` and `--json` both write to stdout", hint="use one of them")
    with _file_for(out, run.folder / f"predict-{images.absolute().stem}.csv") as file:
        words = _predict_words(run, images, image_folder, file, tta=tta, device=device)
        _run_trainer([*words, *([] if fold is None else ["--fold", str(fold)])])
        if out == STDOUT:
            sys.stdout.write(file.read_text(encoding="utf-8"))
            return ExitCode.DONE
    if as_json:
        answer_json({"run_id": run.name, "predictions": str(file), "images": len(found.files)})
    else:
        answer(str(file))
    return ExitCode.DONE


@app.command(
    rich_help_panel=RESULTS,
    epilog="Example:\n\n  cloudrun submit last sample_submission.csv\n\n"
    "  cloudrun submit last sample_submission.csv --upload --competition plant-pathology-2021-fgvc8\n",
)
def submit(  # noqa: PLR0913 - each is an option of the command
    run_id: TrainedArgument,
    sample_path: Annotated[
        Path | None, typer.Argument(metavar="SAMPLE.csv", help="The competition's sample submission.")
    ] = None,
    sample: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The same. [default: sample_submission.csv in the data folder or here]"),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(metavar="IMAGES", help=f"Predict these first. [default: the run's {PREDICTIONS}]")
    ] = None,
    image_folder: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where a list's images are. [default: beside the list]")
    ] = None,
    tta: TtaOption = None,
    device: DeviceOption = "auto",
    separator: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Between several classes. [default: as in the sample]")
    ] = None,
    out: Annotated[str, typer.Option(metavar="FILE", help="File to write; - is stdout.")] = "submission.csv",
    upload: Annotated[bool, typer.Option("--upload", help="Submit it to Kaggle, after a question.")] = False,
    competition: Annotated[
        str | None, typer.Option(metavar="NAME", help="The competition's name on Kaggle. [default: that of the data]")
    ] = None,
    message: Annotated[str | None, typer.Option(metavar="TEXT", help="For Kaggle's list. [default: the run]")] = None,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Do not ask before the upload.")] = False,
    as_json: JsonOption = False,
) -> int:
    """Write a competition's submission from a fetched run, checked against its sample file; or upload it, too."""
    if sample is not None and sample_path is not None:
        raise UsageError("the sample submission is given twice", hint="name it once")
    if out == STDOUT and (as_json or upload):
        raise UsageError("`--out -` goes with neither `--json` nor `--upload`", hint="name a file")
    if (competition or message or yes) and not upload:
        raise UsageError(
            "`--competition`, `--message` and `--yes` are about an upload", hint="add `--upload`, or leave them out"
        )
    run = _trained(run_id)
    to = _competition(run, competition, agreed=yes) if upload else None
    wanted = sample_path or sample or _find_sample(run)
    with _file_for(out, Path(out)) as file, TemporaryDirectory(prefix="cloudrun-submit-") as scratch:
        predictions = _predictions(run, images, image_folder, Path(scratch), tta=tta, device=device)
        words = ["submit", "--predictions", str(predictions), "--sample", str(wanted), "--out", str(file)]
        _run_trainer([*words, *([] if separator is None else ["--separator", separator])], needs_torch=False)
        if out == STDOUT:
            sys.stdout.write(file.read_text(encoding="utf-8"))
            return ExitCode.DONE
    told = None if to is None else _upload(run, file, to, message or f"{run.name}, by cloudrun", agreed=yes)
    if as_json:
        answer_json(
            {"run_id": run.name, "submission": str(file), "uploaded": told is not None, "competition": to, "told": told}
        )
    else:
        answer(str(file))
    return ExitCode.DONE if to is None or told is not None else ExitCode.FAILED


@app.command(
    rich_help_panel=RESULTS,
    epilog="Example:\n\n  cloudrun export last --format safetensors\n\n"
    "  cloudrun export last --format onnx --out app/model\n",
)
def export(
    run_id: TrainedArgument,
    form: Annotated[str, typer.Option("--format", metavar="NAME", help="safetensors (for timm), onnx, or torch.")],
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="[default: export-NAME in the run's folder]")] = None,
    fold: Annotated[int | None, typer.Option(min=0, metavar="N", help="This fold alone. [default: each]")] = None,
    as_json: JsonOption = False,
) -> int:
    """Write a fetched run's model for other programs, checked against it, with a model card."""
    if form not in _EXPORT_PACKAGES:
        raise UsageError(f"there is no format `{form}`", hint=f"formats: {', '.join(_EXPORT_PACKAGES)}")
    run = _trained(run_id)
    folder = run.folder / f"export-{form}" if out is None else out
    words = ["export", "--run", str(run.folder), "--format", form, "--out", str(folder)]
    _run_trainer([*words, *([] if fold is None else ["--fold", str(fold)])], extras=_EXPORT_PACKAGES[form])
    if as_json:
        files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        answer_json({"run_id": run.name, "format": form, "folder": str(folder), "files": files})
    else:
        answer(str(folder))
    return ExitCode.DONE


def _predictions(  # noqa: PLR0913 - the command's own options
    run: TrainedRun, images: Path | None, image_folder: Path | None, scratch: Path, *, tta: str | None, device: str
) -> Path:
    """Return the file of predictions of the test images; `images` are predicted now."""
    fetched = run.folder / PREDICTIONS
    if images is not None:
        from cloudrun.imagedata.image_list import images_at

        images_at(images, folder=image_folder)
        file = scratch / PREDICTIONS
        _run_trainer(_predict_words(run, images, image_folder, file, tta=tta, device=device))
        return file
    if tta is not None:
        raise UsageError("`--tta` is for images that are predicted now", hint="name them: `--images FOLDER`")
    if not fetched.is_file():
        raise UsageError(
            f"there is no {fetched}: the run's data had no test images, or it was cut short",
            hint="name the competition's test images: `--images FOLDER` predicts them first",
        )
    return fetched


def _find_sample(run: TrainedRun) -> Path:
    """Return the sample submission in the folder of the run's data, or here. Raises UsageError where there is none."""
    source = run.data_source
    folders = [Path(), *([Path(source)] if source and Path(source).is_dir() else [])]
    found = sorted({path for folder in folders for path in folder.glob("*sample*submission*.csv")})
    if len(found) != 1:
        what = "no sample submission was found" if not found else f"there are {len(found)} sample submissions"
        raise UsageError(
            f"{what} in {' or '.join(str(folder.absolute()) for folder in folders)}",
            hint="name the competition's file: `cloudrun submit RUN SAMPLE.csv`",
        )
    note(f"the sample submission is {found[0]}")
    return found[0]


def _competition(run: TrainedRun, named: str | None, *, agreed: bool) -> str:
    """Return the competition to upload to. Raises UsageError or SourceProblem for what would stop the upload later."""
    from cloudrun.sources.kaggle import find_or_refuse

    find_or_refuse(os.environ)
    if not agreed and not may_ask():
        raise UsageError("an upload is asked about, and there is no terminal", hint="add `--yes` to agree in advance")
    source = run.data_source or ""
    prefix = "kaggle://competitions/"
    if named is None and source.startswith(prefix):
        return source.removeprefix(prefix).split("/")[0]
    if named is None:
        raise UsageError(
            "`--upload` needs the competition, and the run's data are not from one of Kaggle's",
            hint="`--competition NAME`: the last word of the competition's address",
        )
    return named.rstrip("/").rpartition("/")[2]


def _upload(run: TrainedRun, file: Path, competition: str, message: str, *, agreed: bool) -> str | None:
    """Submit the file; return what Kaggle said, None where the user said no."""
    from cloudrun.runs.kaggle_upload import submit_to_kaggle
    from cloudrun.state.home import home_folder

    question = f"Submit {file} of {run.name} to {competition} on Kaggle? It counts as one of the day's submissions."
    if not agreed and not confirm(question, default=False):
        warn(f"{file} was not submitted")
        return None
    told = submit_to_kaggle(file, competition=competition, message=message, home=home_folder(), say=say)
    note(told)
    return told


def _trained(named: str) -> TrainedRun:
    from cloudrun.runs.trained import trained_run
    from cloudrun.state.home import home_folder
    from cloudrun.state.ledger import Ledger

    return trained_run(named, Ledger(home_folder()))


def _predict_words(  # noqa: PLR0913 - the command's own options
    run: TrainedRun, images: Path, image_folder: Path | None, file: Path, *, tta: str | None, device: str
) -> list[str]:
    words = ["predict", "--run", str(run.folder), "--data", str(images), "--out", str(file), "--device", device]
    if image_folder is not None:
        words += ["--image-folder", str(image_folder)]
    return [*words, *([] if tta is None else ["--tta", tta])]


def _run_trainer(words: list[str], *, needs_torch: bool = True, extras: tuple[tuple[str, str], ...] = ()) -> str:
    """Return what the trainer wrote to stdout; its error has been printed by itself, and ends the command."""
    from cloudrun.runs.trained import TrainerFailed, run_here, run_trainer
    from cloudrun.state.home import home_folder

    try:
        if not needs_torch:
            return run_here(words)
        return run_trainer(words, home_folder(), say, extras=extras)
    except TrainerFailed as err:
        raise typer.Exit(err.exit_code) from None


@contextmanager
def _file_for(out: str | None, default: Path) -> Iterator[Path]:
    """Yield the file to write: `out`, or `default`, or for stdout a temporary one."""
    if out != STDOUT:
        yield default if out is None else Path(out)
        return
    with TemporaryDirectory(prefix="cloudrun-out-") as scratch:
        yield Path(scratch) / "out.csv"
