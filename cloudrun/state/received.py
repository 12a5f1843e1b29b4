"""Read the files of a machine or a bucket: here alone their bytes become models, or raise `Unreadable`. Pure.

Each file may hold anything: the user's own command can write it, or a newer worker, or a disk that fails. A field that
cannot be understood is left out and named. A file that cannot be understood is `Unreadable`, which ends no command.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cloudrun.files.untrusted import LARGEST_RESULT_BYTES, Unreadable, parse_object, read_limited
from cloudrun.protocol.outputs import SUMMARY
from cloudrun.protocol.timing import LONGEST_QUESTION_S
from cloudrun.protocol.words import EndReason, word_of
from cloudrun.state.records import Progress, Result

_LONGEST_MESSAGE = 2000
_NAMED_FIELDS = 5

Model = TypeVar("Model", bound=BaseModel)

Number = Annotated[float, Field(ge=-1e12, le=1e12)]
Seconds = Annotated[float, Field(ge=0, le=1e9)]


class Question(BaseModel):
    """The worker's question to the user who follows the run (`question.json`), and the seconds that it waits."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    question: Annotated[str, Field(max_length=1000)]
    wait_s: Annotated[float, Field(ge=0, le=LONGEST_QUESTION_S)]


class Finding(BaseModel):
    """A problem that the trainer found in the run, and its hint what to try."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    epoch: int | None = None
    message: str = ""
    hint: str = ""


class Summary(BaseModel):
    """The fields of `summary.json` that are used; the trainer wrote it, or the user's own command."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, allow_inf_nan=False)

    metric_name: str | None = None
    best_epoch: int | None = None
    best_metric: Number | None = None
    val_accuracy: Number | None = None
    test_accuracy: Number | None = None
    val_macro_f1: Number | None = None
    test_macro_f1: Number | None = None
    images_per_s: Annotated[float, Field(ge=0, le=1e9)] | None = None
    train_seconds: Seconds | None = None
    evaluation_seconds: Seconds | None = None
    evaluated_images: Annotated[int, Field(ge=0)] | None = None
    test_recall: dict[str, Number | None] | None = None
    findings: list[Finding] | None = None
    unreadable_images: list[str] | None = None

    @property
    def is_of_folds(self) -> bool:
        """Whether each image was judged by the fold that did not see it."""
        return (self.metric_name or "").startswith("oof_")


def understood(model: type[Model], tree: Mapping[str, Any]) -> tuple[Model, tuple[str, ...]]:
    """Return `model` with the valid fields of `tree`, and the names of the invalid fields, which are left out.

    A field that the model does not know is left out without a word. Raises Unreadable where a field that the model
    needs is missing or invalid.
    """
    try:
        return model.model_validate(tree), ()
    except ValidationError as err:
        problems = err.errors(include_url=False, include_input=False, include_context=False)
    # A problem with a rule of the model as a whole has no `loc`. An unknown name inside of a field does not make the
    # field wrong: only that name is taken out.
    foreign = [problem["loc"] for problem in problems if problem["type"] == "extra_forbidden"]
    wrong = {str(problem["loc"][0]) for problem in problems if problem["loc"] and problem["loc"] not in foreign}
    kept = _without({name: value for name, value in tree.items() if name not in wrong}, foreign)
    try:
        return model.model_validate(kept), tuple(sorted(wrong))
    except ValidationError:
        first = problems[0]
        place = ".".join(map(str, first["loc"]))
        raise Unreadable(f"`{place}`: {first['msg'][:1].lower()}{first['msg'][1:]}"[:200]) from None


def _without(tree: dict[str, Any], places: list[tuple[int | str, ...]]) -> dict[str, Any]:
    """Return a copy of `tree` without the values at `places`."""
    direct = {place[0] for place in places if len(place) == 1}
    kept = {name: value for name, value in tree.items() if name not in direct}
    for name in {place[0] for place in places if len(place) > 1 and place[0] in kept}:
        below = [place[1:] for place in places if place[0] == name and len(place) > 1]
        value = kept[str(name)]
        if isinstance(value, dict):
            kept[str(name)] = _without(value, below)
        elif isinstance(value, list | tuple):
            kept[str(name)] = [
                _without(item, [place[1:] for place in below if place[0] == index]) if isinstance(item, dict) else item
                for index, item in enumerate(value)
            ]
    return kept


def result_from(content: bytes) -> Result:
    """Return the worker's result. Raises Unreadable.

    A reason that only a newer worker knows is taken as a failure, and the message says so.
    """
    tree = parse_object(content)
    word, said = tree.get("reason"), tree.get("message")
    if isinstance(said, str):
        tree["message"] = said = said[:_LONGEST_MESSAGE]
    if isinstance(word, str) and word_of(EndReason, word) is None:
        unknown = f"it ended by a reason that this cloudrun does not know: {word[:50]}"
        tree |= {"reason": EndReason.FAILED, "message": f"{unknown}; {said}" if said else unknown}
    result, _ = understood(Result, tree)
    return result


def progress_from(content: bytes) -> Progress:
    """Return the worker's heartbeat without its invalid fields. Raises Unreadable."""
    progress, _ = understood(Progress, parse_object(content))
    return progress


def question_from(content: bytes) -> Question:
    """Return the worker's question. Raises Unreadable."""
    question, _ = understood(Question, parse_object(content))
    return question


def summary_at(folder: Path) -> tuple[Summary, str]:
    """Return the summary in `folder`, and a sentence about what is wrong with its file, empty where nothing is.

    The summary is empty where there is no file, or where it cannot be read.
    """
    path = folder / SUMMARY
    try:
        content = read_limited(path, LARGEST_RESULT_BYTES)
        if content is None:
            return Summary(), ""
        summary, wrong = understood(Summary, parse_object(content, largest_bytes=LARGEST_RESULT_BYTES))
    except Unreadable as err:
        return Summary(), f"{path} cannot be read: {err}"
    if not wrong:
        return summary, ""
    named = ", ".join(f"`{name}`" for name in wrong[:_NAMED_FIELDS]) + (", ..." if len(wrong) > _NAMED_FIELDS else "")
    return summary, f"{path} is used without {named}: not what belongs there"
