"""Parse `python -m trainer COMMAND`, call one function, print its answer. The one error boundary."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

from cloudrun.errors import CloudrunError
from cloudrun.imagedata.dataset import Reading, columns_from
from cloudrun.imagedata.image_list import images_at
from cloudrun.imagedata.labels import find_labels
from cloudrun.recipe.train_config import MetricName, TrainConfig, knob_warnings
from trainer.config_file import hours_left, load_config
from trainer.data.leaves import write_leaves
from trainer.distributed.launch import (
    end_with_parent,
    is_to_launch,
    launch,
    process_count,
    report_ending,
    report_listening,
)
from trainer.distributed.nodes import Nodes
from trainer.distributed.ranks import Ranks, ranks_from
from trainer.distributed.stop import StopFlag
from trainer.errors import DONE, FAILED, ConfigError, StoppedEarly, TrainerError
from trainer.outputs.progress import Progress, SilentProgress, answer, fail

# An installed cloudrun has this package inside itself (cloudrun/trainer.py).
_IS_BUNDLED = Path(__file__).parents[1].name == "_bundled"
_PROGRAM = "python -m cloudrun.trainer" if _IS_BUNDLED else "python -m trainer"

_Add = Callable[[str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser]


def main(argv: Sequence[str]) -> int:
    """Return the exit code: 0 done, 1 failed, 2 bad usage or config, 75 stopped early.

    After 75 the checkpoint is complete; there is none where the run was stopped before there was a model.
    """
    arguments = _parser().parse_args(argv)
    arguments.argv = argv
    command: Callable[[argparse.Namespace], int] = arguments.command
    end_with_parent()
    try:
        code = command(arguments)
    except StoppedEarly as stopped:
        if ranks_from().is_main:
            Progress().say(stopped.message)
        report_ending(stopped.exit_code)
        return stopped.exit_code
    except CloudrunError as err:
        if not report_ending(err.exit_code, err):
            fail(err.message, err.hint)
        return err.exit_code
    except OSError as err:
        if err.filename is None:  # without a file name: a bug
            raise
        failure = TrainerError(
            f"{err.filename}: {err.strerror}",
            hint="check the path, who may write there, and the room on the disk",
        )
        if not report_ending(FAILED, failure):
            fail(failure.message, failure.hint)
        return FAILED
    except KeyboardInterrupt:
        return 130
    report_ending(code)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_PROGRAM,
        description="Train timm backbones on a folder of images. Needs no machine and no job file.",
        epilog="exit codes: 0 done, 1 failed, 2 bad usage or config, 75 stopped early with a complete checkpoint",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, act: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(command=act)
        return command

    _add_training(add)
    _add_predicting(add)
    _add_trying(add)
    return parser


def _add_training(add: _Add) -> None:
    command = add("train", _train, "train, or continue where the same command stopped")
    _add_paths(command, config=True, data=True)
    command.add_argument("--out", type=Path, required=True, help="folder for checkpoints, metrics and predictions")
    _add_processes(command)
    command = add("folds", _folds, "train each of `folds` in turn, or continue; then merge their results")
    _add_paths(command, config=True, data=True)
    command.add_argument("--out", type=Path, required=True, help="folder for the folds and their merged results")
    _add_processes(command)
    command.add_argument(
        "--calibrate", action="store_true", help="probabilities of predictions.csv at the fitted temperature"
    )


def _add_predicting(add: _Add) -> None:
    command = add("predict", _predict, "name the class of each image, with a checkpoint or with a whole run")
    model = command.add_mutually_exclusive_group(required=True)
    model.add_argument("--checkpoint", type=Path, help="best.pt or last.pt")
    model.add_argument(
        "--run", type=Path, metavar="DIR", help="folder of a run: its best model, all its folds, or the stack"
    )
    command.add_argument("--fold", type=int, metavar="N", help="of the run's folds this one alone, from 0")
    command.add_argument(
        "--data", type=Path, required=True, help="folder of images, an image, a list of paths, or a CSV file of ids"
    )
    command.add_argument(
        "--image-folder", type=Path, metavar="DIR", help="where a list's images are; default: beside the list"
    )
    command.add_argument("--out", type=Path, required=True, help="the CSV file to write")
    command.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto")
    command.add_argument(
        "--tta",
        choices=get_args(TrainConfig.model_fields["tta"].annotation),
        help="test-time augmentation; default: as in the training",
    )
    command = add("export", _export, "write the best model for other programs, checked against it, with a model card")
    model = command.add_mutually_exclusive_group(required=True)
    model.add_argument("--checkpoint", type=Path, help="best.pt or last.pt")
    model.add_argument("--run", type=Path, metavar="DIR", help="folder of a run; of its folds each is written")
    command.add_argument("--fold", type=int, metavar="N", help="of the run's folds this one alone, from 0")
    command.add_argument("--format", choices=("safetensors", "onnx", "torch"), required=True)
    command.add_argument("--out", type=Path, required=True, help="folder to write")
    command = add("stack", _stack, "learn from the out-of-fold predictions of `folds`, beside the plain average")
    command.add_argument(
        "--runs", type=Path, nargs="+", required=True, metavar="DIR", help="`--out` folders of `folds`"
    )
    command.add_argument(
        "--out", type=Path, required=True, help="folder for stacking.json, oof.csv and predictions.csv"
    )
    command.add_argument(
        "--learners",
        default="logistic,lightgbm,xgboost,catboost",
        help="separated by commas (default: %(default)s)",
    )
    command.add_argument(
        "--features",
        action="store_true",
        help="learn from the networks' features, too; needs `--data`, and takes longer",
    )
    command.add_argument(
        "--data", type=Path, help="the folder of images that the runs were trained on, for `--features`"
    )
    command.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto", help="device of the networks")
    command.add_argument(
        "--metric", choices=get_args(MetricName), default="accuracy", help="by which a method is chosen"
    )
    command.add_argument("--metric-beta", type=float, default=2.0, help="weight of recall in f_beta")
    command.add_argument("--metric-k", type=int, default=5, help="classes that may be named in top_k")
    command = add(
        "submit", _submit, "write predictions in the format of a competition's sample submission, and check them"
    )
    command.add_argument(
        "--predictions", type=Path, required=True, help="predictions.csv of `train`, `folds` or `predict`"
    )
    command.add_argument("--sample", type=Path, required=True, help="the competition's sample submission")
    command.add_argument("--separator", help="between several classes of an image; default: as in the sample")
    command.add_argument("--out", type=Path, required=True, help="the CSV file to write")


def _add_trying(add: _Add) -> None:
    command = add("overfit", _overfit, "learn one batch by heart: finds a broken model or labels in a minute")
    _add_paths(command, config=True, data=True)
    command.add_argument("--steps", type=int, default=200)
    command = add("lr", _lr, "learning rate range test: where the model learns fastest, and where it diverges")
    _add_paths(command, config=True, data=True)
    command.add_argument("--steps", type=_steps, default=100, help="steps in which the rate rises, at least 20")
    command = add("bench", _bench, "images per second of the loader, of the model, and of both together")
    _add_paths(command, config=True, data=False)
    command.add_argument("--data", type=Path, help="folder of images; default: drawn leaves")
    command.add_argument("--steps", type=int, default=10, help="steps to measure")
    command = add("leaves", _leaves, "draw a small synthetic data set")
    command.add_argument("--out", type=Path, required=True, help="folder to fill")
    command.add_argument("--train", type=int, default=400, help="images")
    command.add_argument("--val", type=int, default=80, help="images")
    command.add_argument("--test", type=int, default=80, help="images")
    command.add_argument("--size", type=int, default=96, help="pixels")
    command.add_argument("--seed", type=int, default=0)


def _add_paths(parser: argparse.ArgumentParser, *, config: bool, data: bool) -> None:
    if config:
        parser.add_argument("--config", type=Path, required=True, help="YAML: a train section, or a job file")
    if data:
        parser.add_argument("--data", type=Path, required=True, help="folder of images")
    if config and data:
        parser.add_argument("--labels", metavar="CSV", help="labels of the images, a path in the data folder, or here")
        parser.add_argument(
            "--columns", metavar="JSON", default="{}", help='of the labels: {"image": "id_code", "label": "diagnosis"}'
        )
        parser.add_argument(
            "--classes", choices=("auto", "top", "deepest"), default="auto", help="which folders are the classes"
        )


def _add_processes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--processes",
        type=_processes,
        metavar="N",
        help="processes that train together, each on its share of a batch; default: one for each GPU of this machine",
    )
    parser.add_argument("--nodes", type=int, default=1, metavar="N", help="machines that train together")
    parser.add_argument("--node-rank", type=int, default=0, metavar="R", help="number of this machine, from 0")
    parser.add_argument("--head", default="", metavar="HOST:PORT", help="address of the first machine")


def _processes(text: str) -> int:
    count = _whole(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"{count} processes: at least 1 is needed")
    return count


def _steps(text: str) -> int:
    steps = _whole(text)
    if steps < 20:
        raise argparse.ArgumentTypeError(f"{steps} steps are too few to see a slope; at least 20")
    return steps


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"`{text}` is not a whole number") from None


def _config(path: Path, progress: Progress) -> TrainConfig:
    config = load_config(path)
    for warning in knob_warnings(config):
        progress.say(f"warning: {warning}")
    return config


def _labels(arguments: argparse.Namespace) -> Reading:
    labels = None if arguments.labels is None else find_labels(arguments.labels, arguments.data, beside=Path())
    return Reading(labels, columns_from(arguments.columns), arguments.classes)


# torch takes seconds to import: each command imports what it needs after its arguments were checked.


def _train(arguments: argparse.Namespace) -> int:
    def work(config: TrainConfig, stop: StopFlag, progress: Progress, ranks: Ranks) -> None:
        labels = _labels(arguments)
        common = {"data": arguments.data, "labels": labels, "out": arguments.out}
        if config.fold == "all":
            from trainer.cross_validation.train_folds import train_folds

            train_folds(config, **common, stop=stop, progress=progress, ranks=ranks, hours_left=hours_left())
            return
        from trainer.training.engine import train

        train(config, **common, stop=stop, progress=progress, ranks=ranks, hours_left=hours_left())

    return _together(arguments, work)


def _folds(arguments: argparse.Namespace) -> int:
    def work(config: TrainConfig, stop: StopFlag, progress: Progress, ranks: Ranks) -> None:
        labels = _labels(arguments)
        from trainer.cross_validation.train_folds import train_folds

        train_folds(
            config,
            data=arguments.data,
            labels=labels,
            out=arguments.out,
            calibrate=arguments.calibrate,
            stop=stop,
            progress=progress,
            ranks=ranks,
            hours_left=hours_left(),
        )
        if ranks.is_main:
            answer(str(arguments.out))

    return _together(arguments, work)


def _together(arguments: argparse.Namespace, work: Callable[[TrainConfig, StopFlag, Progress, Ranks], None]) -> int:
    """Do `work` in this process, or start processes that do it together, each of which calls this function again."""
    ranks = ranks_from()
    stop = StopFlag(ranks, on_listening=report_listening)
    stop.listen()
    config = load_config(arguments.config)
    nodes = Nodes(arguments.nodes, arguments.node_rank, arguments.head)
    processes = process_count(config, arguments.processes)
    if is_to_launch(processes, nodes):
        return launch(arguments.argv, processes=processes, nodes=nodes, stop=stop)
    progress = Progress(out=arguments.out) if ranks.is_main else SilentProgress()
    for warning in knob_warnings(config):
        progress.say(f"warning: {warning}")
    if ranks.world > 1:
        from trainer.session.device import choose_device

        ranks.join(choose_device(config, ranks=ranks).torch_device, stop)
    try:
        work(config, stop, progress, ranks)
    except StoppedEarly:
        ranks.leave()  # all processes end together, once the main process has written its checkpoint
        raise
    ranks.leave()
    return DONE


def _predict(arguments: argparse.Namespace) -> int:
    images = images_at(arguments.data, folder=arguments.image_folder)
    if arguments.checkpoint is not None and arguments.fold is not None:
        raise ConfigError("`--fold` is for `--run` alone", hint="name the fold's own best.pt, or give `--run`")
    from trainer.outputs.predictions import write_test_predictions
    from trainer.stacking.predict_stack import STACKING, predict_stack
    from trainer.tools.predict import predict_run
    from trainer.training.predicting import predict_with

    say, how = Progress().say, {"device": arguments.device, "tta": arguments.tta}
    if arguments.checkpoint is not None:
        predictions, rule = predict_with(arguments.checkpoint, images, **how)
    elif (arguments.run / STACKING).is_file():
        if arguments.fold is not None:
            raise ConfigError(f"{arguments.run} is a stack, which has no fold of its own", hint="leave out `--fold`")
        predictions, rule = predict_stack(arguments.run, images, **how, say=say)
    else:
        predictions, rule = predict_run(arguments.run, images, fold=arguments.fold, **how, say=say)
    write_test_predictions(arguments.out, predictions, rule)
    answer(str(arguments.out))
    return DONE


def _export(arguments: argparse.Namespace) -> int:
    if arguments.checkpoint is not None and arguments.fold is not None:
        raise ConfigError("`--fold` is for `--run` alone", hint="name the fold's own best.pt, or give `--run`")
    from trainer.export.exporting import export_checkpoint, export_run

    how = {"form": arguments.format, "out": arguments.out, "say": Progress().say}
    if arguments.run is not None:
        export_run(arguments.run, fold=arguments.fold, **how)
    else:
        export_checkpoint(arguments.checkpoint, **how)
    answer(str(arguments.out))
    return DONE


def _stack(arguments: argparse.Namespace) -> int:
    if arguments.features != (arguments.data is not None):
        raise ConfigError(
            "`--features` needs `--data`, and `--data` is for `--features` alone",
            hint="give both, or neither: then learners use predictions only",
        )
    from trainer.stacking.learners import open_learners

    learners = open_learners([name.strip() for name in arguments.learners.split(",") if name.strip()])
    from trainer.stacking.stack import stack

    stack(
        arguments.runs,
        out=arguments.out,
        learners=learners,
        data=arguments.data,
        metric=arguments.metric,
        metric_beta=arguments.metric_beta,
        metric_k=arguments.metric_k,
        device=arguments.device,
        say=Progress().say,
    )
    answer(str(arguments.out))
    return DONE


def _submit(arguments: argparse.Namespace) -> int:
    from trainer.tools.submission import write_submission

    write_submission(
        arguments.predictions,
        sample_path=arguments.sample,
        out=arguments.out,
        separator=arguments.separator,
        say=Progress().say,
    )
    answer(str(arguments.out))
    return DONE


def _overfit(arguments: argparse.Namespace) -> int:
    progress = Progress()
    config = _config(arguments.config, progress)
    labels = _labels(arguments)
    from trainer.tools.overfit import overfit

    is_learned = overfit(config, data=arguments.data, labels=labels, steps=arguments.steps, say=progress.say)
    return DONE if is_learned else FAILED


def _lr(arguments: argparse.Namespace) -> int:
    progress = Progress()
    config = _config(arguments.config, progress)
    labels = _labels(arguments)
    from trainer.tools.lr_range import lr_range

    result = lr_range(config, data=arguments.data, labels=labels, steps=arguments.steps, say=progress.say)
    curve = [{"lr": rate, "loss": round(loss, 4)} for rate, loss in result.curve]
    answer(json.dumps({"steepest_lr": result.steepest, "diverges_lr": result.diverges, "curve": curve}))
    return DONE


def _bench(arguments: argparse.Namespace) -> int:
    progress = Progress()
    config = _config(arguments.config, progress)
    from trainer.tools.bench import bench

    answer(json.dumps(bench(config, data=arguments.data, steps=arguments.steps, say=progress.say)))
    return DONE


def _leaves(arguments: argparse.Namespace) -> int:
    write_leaves(
        arguments.out,
        train=arguments.train,
        val=arguments.val,
        test=arguments.test,
        size=arguments.size,
        seed=arguments.seed,
    )
    answer(str(arguments.out))
    return DONE
