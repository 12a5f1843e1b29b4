"""Label files of other people: columns, encodings, dialects, exports, missing values; what each must be read as."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cloudrun.imagedata.folders import Dataset
from cloudrun.imagedata.label_columns import GUESSED, LabelColumns
from cloudrun.imagedata.labels import LabelProblems, list_labelled
from cloudrun.imagedata.walk import FolderProblem

ROWS = [("im_0.jpg", "rust"), ("im_1.jpg", "scab"), ("im_2.jpg", "rust"), ("im_3.jpg", "scab")]


@pytest.fixture
def plants(tmp_path: Path) -> Path:
    """Four images in images/, and none of them a picture."""
    (tmp_path / "images").mkdir()
    for name, _ in ROWS:
        (tmp_path / "images" / name).touch()
    return tmp_path


def read(folder: Path, content: str | bytes, told: LabelColumns = GUESSED, *, name: str = "t.csv") -> Dataset:
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return list_labelled(folder, folder / name, told)


def labels_of(dataset: Dataset) -> dict[str, str]:
    return {
        path.name: "|".join(dataset.classes[index] for index in dataset.classes_of(label))
        for files in dataset.splits.values()
        for path, label in files
    }


def lines(header: str, row: str = "{0},{1}", mark: str = "\n") -> str:
    return mark.join([header, *(row.format(*one, place, place % 2) for place, one in enumerate(ROWS)), ""])


@pytest.mark.parametrize(
    ("content", "columns"),
    [
        (lines("id_code,diagnosis"), "image=id_code, label=diagnosis"),
        (
            lines("lesion_id,image_id,dx,age", "L{3},{0},{1},80"),
            "image=image_id, label=dx, group=lesion_id, unused: age",
        ),
        (lines("class id,filepaths,labels", "{3},{0},{1}"), "image=filepaths, label=labels, unused: class id"),
        (lines("id,breed"), "image=id, label=breed"),
        (lines("photo_of,what"), "image=photo_of, label=what"),
        (lines(",image,label", "{2},{0},{1}"), "image=image, label=label, unused: column 1"),
        (lines("image,label", "{2},{0},{1}"), "image=image, label=label, unused: column 1"),
        (lines("Unnamed: 0,image,label", "{2},{0},{1}"), "image=image, label=label, unused: Unnamed: 0"),
        (lines("image,label,weight_g", "{0},{1},{2}"), "image=image, label=label, unused: weight_g"),
        (lines("image,label,fold", "{0},{1},{2}"), "image=image, label=label, unused: fold"),
        (lines("image,label,patient_id", "{0},{1},p{3}"), "image=image, label=label, group=patient_id"),
        (lines("image,label,patient_id", "{0},{1},p{2}"), "image=image, label=label, unused: patient_id"),
        (lines("Image Name,Class Label"), "image=Image Name, label=Class Label"),
    ],
)
def test_columns_are_guessed_and_said(plants: Path, content: str, columns: str) -> None:
    dataset = read(plants, content)
    assert labels_of(dataset) == dict(ROWS)
    assert dataset.columns is not None
    assert dataset.columns.text() == columns


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "gbk", "gb18030", "shift_jis"]
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_encodings_are_read(plants: Path, encoding: str, end: str) -> None:
    names = {"rust": "錆病", "scab": "健康"} if encoding == "shift_jis" else {"rust": "锈病", "scab": "健康"}
    content = end.join(["image,label", *(f"{image},{names[label]}" for image, label in ROWS)])
    assert labels_of(read(plants, content.encode(encoding))) == {image: names[label] for image, label in ROWS}


@pytest.mark.parametrize(
    "names", [("été", "hiver"), ("Äpfel", "Birnen"), ("manzana niña", "pera"), ("mildiou précoce", "brûlure")]
)
def test_western_code_pages_are_read(plants: Path, names: tuple[str, str]) -> None:
    content = "\n".join(["image,label", *(f"im_{index}.jpg,{names[index % 2]}" for index in range(4))])
    dataset = read(plants, content.encode("cp1252"))
    assert dataset.classes == tuple(sorted(names))
    assert any("read as Windows-1252" in one for one in dataset.warnings)


@pytest.mark.parametrize(
    "content",
    [
        "sep=;\n" + lines("image;label", "{0};{1}"),
        lines("image;label", "{0};{1}"),
        lines("image\tlabel", "{0}\t{1}"),
        lines("image|label", "{0}|{1}"),
        lines('"image","label"', '"{0}","{1}"'),
        lines("image, label", "{0}, {1}"),
        lines("image,label") + "\n\n",
        lines("image,label", "images\\{0},{1}"),
        lines("image,label", "./images/{0},{1}"),
        lines("image,label", "/kaggle/input/plants/images/{0},{1}"),
        lines("image,label", "https://host/a%20b/{0},{1}"),
        lines("image,label", "IM_{2}.JPG,{1}"),
        lines("image,label", "im_{2},{1}"),
        lines("image,label", "/data/local-files/?d=images/{0},{1}"),
    ],
)
def test_dialects_and_ways_to_name_an_image_are_read(plants: Path, content: str) -> None:
    assert labels_of(read(plants, content)) == dict(ROWS)


@pytest.mark.parametrize("tree", [
    [{"data": {"image": f"/data/upload/{image}"}, "annotations": [{"result": [{"value": {"choices": [label]}}]}]}
     for image, label in ROWS],
    [{"image": f"/data/local-files/?d=images/{image}", "choice": label} for image, label in ROWS],
    dict(ROWS),
    [{"filename": image, "label": label} for image, label in ROWS],
    {"images": [{"id": place, "file_name": image} for place, (image, _) in enumerate(ROWS)],
     "categories": [{"id": 1, "name": "rust"}, {"id": 2, "name": "scab"}],
     "annotations": [{"image_id": place, "category_id": 1 + place % 2} for place in range(4)]},
])  # fmt: skip
def test_exports_in_json_are_read(plants: Path, tree: object) -> None:
    assert labels_of(read(plants, json.dumps(tree), name="export.json")) == dict(ROWS)


def test_json_is_known_by_its_content(plants: Path) -> None:
    content = "\n".join(json.dumps({"image": image, "label": label}) for image, label in ROWS)
    assert labels_of(read(plants, content, name="labels.csv")) == dict(ROWS)
    assert labels_of(read(plants, lines("image,label"), name="labels.json")) == dict(ROWS)


@pytest.mark.parametrize("content", ["[" * 100_000, '{"a":' * 100_000, "[{}]", "[[]]", "{}", '[{"image": "im_0.jpg"'])
def test_json_that_holds_no_labels_is_refused(plants: Path, content: str) -> None:
    with pytest.raises(FolderProblem, match=r"nested too deeply|kind that is not known|not valid JSON"):
        read(plants, content)


def test_a_copy_of_the_label_file_from_elsewhere_is_the_label_file(
    plants: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (plants / "notes.csv").write_text("not,these\n")
    there = read(plants, lines("image,label"), name="train.csv")
    copy = tmp_path_factory.mktemp("sent") / "labels.csv"
    copy.write_text(lines("image,label"))
    elsewhere = list_labelled(plants, copy)
    assert there.unused == elsewhere.unused
    assert [(one.reason, one.count, one.examples) for one in there.unused] == [("not images (.csv)", 1, ("notes.csv",))]


def test_lines_of_json_are_read(plants: Path) -> None:
    content = "\n".join(json.dumps({"image": image, "label": label}) for image, label in ROWS)
    assert labels_of(read(plants, content, name="labels.jsonl")) == dict(ROWS)


@pytest.mark.parametrize(
    "cell", ['"{""choices"":[""rust"",""scab""]}"', "\"['rust', 'scab']\"", "rust|scab", "rust;scab"]
)
def test_several_labels_of_a_cell_are_read(plants: Path, cell: str) -> None:
    dataset = read(plants, f"image,label\nim_0,{cell}\nim_1,rust\nim_2,scab\nim_3,rust\n")
    assert labels_of(dataset)["im_0.jpg"] == "rust|scab"


@pytest.mark.parametrize(
    "value", ["", "nan", "NaN", "NA", "N/A", "n/a", "None", "null", "NULL", "?", "-", "#N/A", " nan "]
)
def test_missing_labels_are_named_by_line(plants: Path, value: str) -> None:
    with pytest.raises(LabelProblems, match=r"t\.csv:4: the row has no label"):
        read(plants, f"image,label\nim_0,rust\nim_1,scab\nim_2,{value}\nim_3,rust\n")


@pytest.mark.parametrize(
    ("header", "values", "splits"),
    [
        ("split", ["train", "training", "valid", "validation"], {"train": 2, "val": 2}),
        ("data set", ["train", "TRAIN", "valid", "test"], {"train": 2, "val": 1, "test": 1}),
        ("set", ["Train", "Train", "Dev", "Testing"], {"train": 2, "val": 1, "test": 1}),
        ("is_valid", ["False", "False", "True", "True"], {"train": 2, "val": 2}),
        ("is_valid", ["0", "0", "0", "1"], {"train": 3, "val": 1}),
        ("dataset", ["vidir", "vidir", "rosendahl", "vidir"], {"train": 4}),
    ],
)
def test_a_column_says_the_split_in_any_usual_words(
    plants: Path, header: str, values: list[str], splits: dict[str, int]
) -> None:
    rows = [f"{image},{label},{value}" for (image, label), value in zip(ROWS, values, strict=True)]
    dataset = read(plants, "\n".join([f"image,label,{header}", *rows]))
    assert {split: len(files) for split, files in dataset.splits.items()} == splits


@pytest.mark.parametrize("word", ["valid", "val", "Validation", "dev"])
def test_a_folder_says_the_split_in_any_usual_words(tmp_path: Path, word: str) -> None:
    rows = [f"{split}/{label}/{index}.jpg,{label}" for split in ("train", word) for label in "ab" for index in (1, 2)]
    for row in rows:
        path = tmp_path / row.split(",")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    dataset = read(tmp_path, "\n".join(["image,label", *rows]))
    assert {split: len(files) for split, files in dataset.splits.items()} == {"train": 4, "val": 4}


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (LabelColumns(image="b", label="e"), {"im_0.jpg": "y", "im_1.jpg": "x"}),
        (LabelColumns(image="a", label="d"), {"im_0.jpg": "q", "im_1.jpg": "p"}),
        (LabelColumns(image="a", label=("f", "g")), {"im_0.jpg": "g", "im_1.jpg": "f"}),
    ],
)
def test_the_job_file_may_name_the_columns(plants: Path, told: LabelColumns, expected: dict[str, str]) -> None:
    content = "a,b,d,e,f,g\nim_0,im_1,q,x,0,1\nim_1,im_0,p,y,1,0\nim_2,im_3,q,x,0,1\nim_3,im_2,p,y,1,0\n"
    found = labels_of(read(plants, content, told))
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("content", "told", "message"),
    [
        (lines("image,diagnosis,target", "{0},{1},{2}"), LabelColumns(), "`diagnosis` and `target` may both be"),
        (lines("image,label"), LabelColumns(label="labels_of"), "there is no column `labels_of`"),
        (lines("image,weight_g,age", "{0},{2}7,{2}3"), LabelColumns(), "no column names the label"),
        (
            "image,tags\nim_0,haze primary\nim_1,agriculture clear primary water\nim_2,clear primary\nim_3,cloudy\n",
            LabelColumns(), "may be several labels with spaces between them, or one each",
        ),
        (lines("image,kind_of,a,b", "{0},{1},0,1"), LabelColumns(), "the columns of 0 and 1"),
        (b"PK\x03\x04 a workbook", LabelColumns(), "is a spreadsheet"),
        ('{"neither": 1, "nor": [2]}', LabelColumns(), "there is no image `neither`"),
        ("", LabelColumns(), "is empty"),
    ],
)  # fmt: skip
def test_what_is_not_clear_is_refused_with_a_way_out(
    plants: Path, content: str | bytes, told: LabelColumns, message: str
) -> None:
    with pytest.raises(FolderProblem, match=message) as caught:
        read(plants, content, told)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("separator", "classes"), [(" ", "clear cloudy haze primary"), ("", "clear primary,cloudy,haze primary")]
)
def test_the_job_file_may_say_what_separates_labels(plants: Path, separator: str, classes: str) -> None:
    content = "image,tags\nim_0,haze primary\nim_1,cloudy\nim_2,clear primary\nim_3,cloudy\n"
    dataset = read(plants, content, LabelColumns(separator=separator))
    assert dataset.classes == tuple(classes.split(separator or ","))


@pytest.mark.parametrize(
    ("content", "warning"),
    [
        ("image,label\nim_0,Rust\nim_1,rust\nim_2,ok\nim_3,ok\n", "tell apart: Rust, rust"),
        ("image,a,b,UNK\nim_0,1,0,0\nim_1,0,1,0\nim_2,1,0,0\nim_3,0,1,0\n", "without any 1 are no classes: UNK"),
    ],
)
def test_what_looks_odd_is_warned_of(plants: Path, content: str, warning: str) -> None:
    assert any(warning in one for one in read(plants, content).warnings)


def test_decimal_labels_are_whole_numbers(plants: Path) -> None:
    assert read(plants, lines("image,label", "{0},{3}.0")).classes == ("0", "1")


def test_numbers_name_images_with_zeros_in_front(tmp_path: Path) -> None:
    for index in range(4):
        (tmp_path / f"{index:05}.jpg").touch()
    dataset = read(tmp_path, "id,label\n0,a\n1,b\n2,a\n3,b\n")
    assert labels_of(dataset) == {"00000.jpg": "a", "00001.jpg": "b", "00002.jpg": "a", "00003.jpg": "b"}


def test_masks_with_the_names_of_their_images_are_not_meant(plants: Path) -> None:
    (plants / "masks").mkdir()
    for name, _ in ROWS:
        (plants / "masks" / name).with_suffix(".png").touch()
    dataset = read(plants, lines("image,label", "im_{2},{1}"))
    assert (labels_of(dataset), list(dataset.splits)) == (dict(ROWS), ["train"])
    (unused,) = dataset.unused
    assert (unused.reason, unused.count) == (
        "images without a row in the label file, in a folder of masks or copies",
        4,
    )


def test_a_decomposed_name_is_the_same_name(tmp_path: Path) -> None:
    for name in ("e\u0301_0.jpg", "e\u0301_1.jpg", "2.jpg", "3.jpg"):
        (tmp_path / name).touch()
    dataset = read(tmp_path, "image,label\n\u00e9_0.jpg,a\n\u00e9_1.jpg,b\n2.jpg,a\n3.jpg,b\n")
    assert sorted(labels_of(dataset).values()) == ["a", "a", "b", "b"]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("".join(f"{name},{label}\n" for name, label in ROWS), id="CSV"),
        pytest.param("".join(f"images/{name} {label}\n" for name, label in ROWS), id="a list with spaces"),
        pytest.param("".join(f"{name}\t{label}\n" for name, label in ROWS), id="TSV"),
    ],
)
def test_a_file_without_a_header_loses_no_image(plants: Path, content: str) -> None:
    dataset = read(plants, content)
    assert labels_of(dataset) == dict(ROWS)
    assert dataset.columns is not None
    assert dataset.columns.text() == "image=column 1, label=column 2"
    assert "t.csv has no header: its first line is read as an image, too" in dataset.warnings


def test_the_columns_of_a_file_without_a_header_can_be_told(plants: Path) -> None:
    content = "".join(f"{place},{name},{label},{place}\n" for place, (name, label) in enumerate(ROWS))
    with pytest.raises(FolderProblem, match="or the column `column 3`"):
        read(plants, content)
    assert labels_of(read(plants, content, LabelColumns(label="column 3"))) == dict(ROWS)


def test_lines_of_remarks_before_the_header_are_passed_over(plants: Path) -> None:
    dataset = read(plants, "# exported\n# by a program\n" + lines("image,label"))
    assert labels_of(dataset) == dict(ROWS)
    assert "t.csv begins with 2 line(s) of remarks (`#`), which are passed over" in dataset.warnings


def test_a_row_that_is_wrong_has_its_line_although_remarks_stand_before_it(plants: Path) -> None:
    with pytest.raises(LabelProblems, match=r"t.csv:7: there is no image `no.jpg`"):
        read(plants, "# a remark\n" + lines("image,label") + "no.jpg,rust\n")


@pytest.mark.parametrize(
    "tree",
    [
        pytest.param({"image": [name for name, _ in ROWS], "label": [label for _, label in ROWS]}, id="lists"),
        pytest.param(
            {
                "image": {str(place): name for place, (name, _) in enumerate(ROWS)},
                "label": {str(place): label for place, (_, label) in enumerate(ROWS)},
            },
            id="pandas",
        ),
        pytest.param(
            [
                {"image": f"/data/upload/1/3fa2b1c{place}-{name}", "choice": label}
                for place, (name, label) in enumerate(ROWS)
            ],
            id="uploads of Label Studio",
        ),
        pytest.param(
            [{"image": f"/data/local-files/?d={name}", "choice": label} for name, label in ROWS],
            id="local files of Label Studio",
        ),
    ],
)
def test_json_by_columns_and_addresses_of_label_studio_are_read(plants: Path, tree: object) -> None:
    assert labels_of(read(plants, json.dumps(tree))) == dict(ROWS)


@pytest.mark.parametrize("words", [("yes", "no"), ("Y", "N"), ("TRUE", "FALSE"), ("1.0", "0.0")])
def test_flags_may_be_words(plants: Path, words: tuple[str, str]) -> None:
    flags = "".join(
        f"{name},{label},{words[0] if place == 3 else words[1]}\n" for place, (name, label) in enumerate(ROWS)
    )
    validates = read(plants, f"image,label,is_valid\n{flags}").splits["val"]
    assert [path.name for path, _ in validates] == ["im_3.jpg"]


@pytest.mark.parametrize("column", ["fold", "kfold", "is_train", "is_test", "in_validation"])
def test_a_column_that_may_say_which_images_train_is_named_where_it_is_not_used(plants: Path, column: str) -> None:
    (said,) = read(plants, lines(f"image,label,{column}", "{0},{1},{2}")).warnings
    assert said.startswith(f"column(s) of t.csv that may say which images train are not used: {column};")


def test_cells_with_commas_that_share_words_are_asked_about(plants: Path) -> None:
    rows = "".join(f'{name},"a,{label}"\n' for name, label in ROWS)
    with pytest.raises(FolderProblem, match="cells with commas share words") as caught:
        read(plants, f"image,labels\n{rows}")
    assert caught.value.hint == "say which: `labels: {file: t.csv, separator: ','}` for several, or `separator: ''`"
    told = read(plants, f"image,labels\n{rows}", LabelColumns(separator=","))
    assert labels_of(told)["im_0.jpg"] == "a|rust"
    whole = read(plants, f"image,labels\n{rows}", LabelColumns(separator=""))
    assert whole.classes == ("a,rust", "a,scab")


def test_a_quote_that_is_not_closed_is_named_by_its_line(plants: Path) -> None:
    with pytest.raises(LabelProblems, match=r"t.csv:2: a cell runs over 4 lines") as caught:
        read(plants, 'image,label\nim_0.jpg,"rust\nim_1.jpg,scab\nim_2.jpg,rust\nim_3.jpg,scab\n')
    assert caught.value.hint == "look for a quote that is not closed"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12\n", "is a pointer of git-lfs"),
        ("\n<!DOCTYPE html><html>Sign in</html>", "is a web page or XML"),
    ],
)
def test_what_is_downloaded_in_place_of_labels_is_named(plants: Path, content: str, message: str) -> None:
    with pytest.raises(FolderProblem, match=message):
        read(plants, content)


def test_two_label_columns_of_one_name_that_differ_are_refused_as_duplicates(plants: Path) -> None:
    with pytest.raises(FolderProblem, match="duplicate column `label`, with other cells"):
        read(plants, lines("image,label,label", "{0},{1},{2}"))


def test_classes_that_an_invisible_character_tells_apart_are_warned_of(plants: Path) -> None:
    dataset = read(plants, lines("image,label").replace("im_2.jpg,rust", "im_2.jpg,ru\u200bst"))
    assert any(one.startswith("classes that only case, spaces or") for one in dataset.warnings)
