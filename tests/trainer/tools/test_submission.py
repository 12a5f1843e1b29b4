"""A competition's submission: the columns and ids of its sample file, in its order."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from trainer.cli import main
from trainer.errors import TrainerError
from trainer.tools.submission import write_submission

PREDICTIONS = """image,label,confidence,Black-grass,Common wheat,Maize
test/b.png,Common wheat,0.700000,0.200000,0.700000,0.100000
test/a.png,Maize,0.900000,0.050000,0.050000,0.900000
test/c.png,Black-grass,0.600000,0.600000,0.300000,0.100000
"""


def submit(folder: Path, sample: str, predictions: str = PREDICTIONS) -> tuple[str, list[str]]:
    """The submission, and what was said."""
    said: list[str] = []
    (folder / "predictions.csv").write_text(predictions)
    (folder / "sample.csv").write_text(sample)
    out = folder / "submission.csv"
    write_submission(folder / "predictions.csv", sample_path=folder / "sample.csv", out=out, say=said.append)
    return out.read_text(), said


def test_one_column_takes_the_label(tmp_path: Path) -> None:
    text, said = submit(tmp_path, "file,species\na.png,Sugar beet\nb.png,Sugar beet\nc.png,Sugar beet\n")
    assert text == "file,species\na.png,Maize\nb.png,Common wheat\nc.png,Black-grass\n"
    assert said == [f"3 rows, a label each, columns and ids as in {tmp_path / 'sample.csv'}"]


SEVERAL = """image,label,confidence,healthy,rust,scab
test/a.jpg,rust|scab,0.700000,0.100000,0.800000,0.700000
test/b.jpg,healthy,0.900000,0.900000,0.100000,0.100000
"""


def test_several_classes_of_an_image_are_separated_as_in_the_sample(tmp_path: Path) -> None:
    text, _ = submit(tmp_path, "image,labels\na.jpg,scab rust\nb.jpg,healthy\n", SEVERAL)
    assert text == "image,labels\na.jpg,rust scab\nb.jpg,healthy\n"


def test_a_sample_that_shows_no_separator_needs_to_be_told_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(TrainerError, match=r"1 image\(s\) have several classes, as `rust\|scab`, and no row"):
        submit(tmp_path, "image,labels\na.jpg,healthy\nb.jpg,healthy\n", SEVERAL)
    words = [
        "--predictions",
        tmp_path / "predictions.csv",
        "--sample",
        tmp_path / "sample.csv",
        "--out",
        tmp_path / "o.csv",
    ]
    assert main(["submit", *map(str, words), "--separator", " "]) == 0
    assert (tmp_path / "o.csv").read_text() == "image,labels\na.jpg,rust scab\nb.jpg,healthy\n"


def test_several_columns_take_probabilities_in_the_samples_order_and_spelling(tmp_path: Path) -> None:
    text, said = submit(tmp_path, "image_id,maize,black_grass,Common wheat\na,.3,.3,.3\nc,.3,.3,.3\n")
    assert text.splitlines() == [
        "image_id,maize,black_grass,Common wheat",
        "a,0.900000,0.050000,0.050000",
        "c,0.100000,0.600000,0.300000",
    ]
    assert said[0].startswith("warning: 1 of 3 predictions have no row in ")


def test_an_id_without_an_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match=r"2 of the 3 ids of .* are of no image in .*: `d.png`, `e.png`"):
        submit(tmp_path, "file,species\na.png,x\nd.png,x\ne.png,x\n")
    assert not (tmp_path / "submission.csv").exists()


def test_an_id_that_fits_two_images_is_refused_unless_it_is_the_whole_path(tmp_path: Path) -> None:
    twice = PREDICTIONS.replace("test/c.png", "more/a.png")
    with pytest.raises(TrainerError, match=r"`a.png` of .* may be `test/a.png`, `more/a.png`"):
        submit(tmp_path, "file,species\na.png,x\n", twice)
    assert submit(tmp_path, "file,species\nmore/a.png,x\n", twice)[0] == "file,species\nmore/a.png,Black-grass\n"


def test_a_competition_that_numbers_its_classes_takes_no_names(tmp_path: Path) -> None:
    for probability in ("0.5", "1"):  # a single probability of two classes is none of ours, too
        with pytest.raises(TrainerError, match="are numbers, and"):
            submit(tmp_path, f"id,label\na.png,{probability}\n")
    numbered = "image_id,label\na.png,4\n"
    with pytest.raises(TrainerError, match="are numbers, and the model's classes are `Black-grass`, "):
        submit(tmp_path, numbered)
    by_number = PREDICTIONS.replace("Black-grass", "0").replace("Common wheat", "1").replace("Maize", "2")
    assert submit(tmp_path, numbered, by_number)[0] == "image_id,label\na.png,2\n"


def test_another_spelling_of_a_class_is_refused_where_the_label_itself_is_judged(tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match="spells a class `Black grass`, and the model `Black-grass`"):
        submit(tmp_path, "file,species\na.png,Black grass\n")


def test_two_ids_of_one_image_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match=r"`a.png` and `a` of .* are both `test/a.png`"):
        submit(tmp_path, "file,species\na.png,x\na,x\n")


def test_columns_that_are_not_the_classes_are_named_with_the_classes_that_lack_one(tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match="no class for `Rye`, no column for `Maize`"):
        submit(tmp_path, "id,Black-grass,Common wheat,Rye\na,0,0,0\n")


@pytest.mark.parametrize(
    ("sample", "problem"),
    [
        ("", "sample.csv:1: fewer than two columns"),
        ("file,species\n", "sample.csv has no row below its header"),
        ("file,species\na.png,x\na.png,x\n", "sample.csv:3: duplicate id `a.png`"),
        ("file,species\na.png\n", "sample.csv:2: the row has 1 cell(s), and the header 2"),
    ],
)
def test_a_sample_that_is_none_is_refused_with_its_line(tmp_path: Path, sample: str, problem: str) -> None:
    with pytest.raises(TrainerError, match=re.escape(problem)):
        submit(tmp_path, sample)


def test_the_command_prints_the_file_and_fails_with_a_hint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.csv").write_text(PREDICTIONS)
    (tmp_path / "s.csv").write_text("file,species\na.png,x\n")
    paths = ["--predictions", str(tmp_path / "p.csv"), "--sample", str(tmp_path / "s.csv")]
    assert main(["submit", *paths, "--out", str(tmp_path / "out.csv")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'out.csv'}\n"
    assert main(["submit", *paths, "--out", str(tmp_path / "p.csv" / "out.csv")]) == 1  # p.csv is not a folder
    error = capsys.readouterr().err
    assert f"error: {tmp_path / 'p.csv'}" in error
    assert "hint: check the path, who may write there, and the room on the disk" in error
    assert "Traceback" not in error
    (tmp_path / "s.csv").unlink()
    assert main(["submit", *paths, "--out", str(tmp_path / "out.csv")]) == 1
    error = capsys.readouterr().err
    assert f"error: {tmp_path / 's.csv'} cannot be read" in error
    assert "hint: `--sample` takes the competition's sample file" in error
