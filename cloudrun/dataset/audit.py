"""What a closer look at a data set found, in words, rows and JSON. Pure.

The worst first: an image that trains and is scored makes the score a lie, and nothing later shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from cloudrun.dataset.survey import Survey

Group = tuple[int, ...]

_FEWEST = 5  # images of a class that can teach anything
_MOST_UNEVEN = 10  # times as many images in the largest class as in the smallest


@dataclass(frozen=True, slots=True)
class Look:
    """Images that stand in the data set more than once, as indices into `Survey.files`.

    `duplicates` have the same bytes, `copies` are one photograph turned, mirrored, cropped or saved
    anew, `scenes` are other photographs of one thing. `compared` images were looked at for these;
    `plain` of them have too few details to be told apart.
    """

    duplicates: tuple[Group, ...]
    copies: tuple[Group, ...]
    scenes: tuple[Group, ...]
    compared: int
    plain: int


@dataclass(frozen=True, slots=True)
class Findings:
    """A survey and the closer look at its images."""

    survey: Survey
    look: Look

    def header(self) -> list[str]:
        found = ["DUPLICATES", "COPIES", "GROUPS"] if self.survey.files else []
        return ["CLASS", *self.survey.split_names(), *found]

    def rows(self) -> list[list[str]]:
        """A class a row: images by split, those with a byte-for-byte twin, those with a copy, groups of copies."""
        if not self.survey.files:
            return self.survey.rows()
        rows = []
        for name, *counts in self.survey.rows():
            duplicates, copies = ([group for group in groups if self._is_in(group, name)] for groups in self._found())
            members = [
                sum(self._has(index, name) for group in groups for index in group) for groups in (duplicates, copies)
            ]
            rows.append([name, *counts, *map(str, members), str(len(copies))])
        return rows

    def alarms(self) -> list[str]:
        """Of the warnings those that make what the run will say of itself wrong."""
        return [*self._leaks(), *self._contradictions()]

    def warnings(self) -> list[str]:
        """A line for each thing that makes a score too good, or a class hard to learn; the worst first."""
        left_out = self.survey.left_out
        missed = (
            f"{len(left_out)} image(s) have no row in {self.survey.labels} and are left out: {', '.join(left_out[:3])}"
        )
        return [
            *self.alarms(),
            *self._seen_before(),
            *self._held_out(),
            *self.survey.notes,
            *self._unreadable(),
            *([missed] if left_out else []),
            *self._twins(),
            *self._balance(),
        ]

    def facts(self) -> list[str]:
        """What is good to know and no reason for concern."""
        look, survey = self.look, self.survey
        if not survey.files:
            return []
        columns = f"labels: {survey.columns.text()}" if survey.columns is not None else ""
        deep = f"{len(survey.deep)} grey image(s) of 16 or 32 bits are scaled to 8: {', '.join(survey.deep[:3])}"
        tested = f"{survey.unlabelled_test} image(s) have no label and are the test set: predicted, not scored"
        return [
            *([columns] if columns else []),
            *([deep] if survey.deep else []),
            *([tested] if survey.unlabelled_test else []),
            self._compared(look),
        ]

    def unused_rows(self) -> list[list[str]]:
        """A row for each reason for which files are not used: how many, why, and some names."""
        return [
            [str(one.count), one.reason, ", ".join(one.examples[:3]) + (", ..." if one.count > 3 else "")]
            for one in self.survey.unused
        ]

    def _compared(self, look: Look) -> str:
        if not look.compared:
            return f"{len(self.survey.files)} images: compared byte for byte alone; more would take too long"
        images = sum(map(len, look.copies))
        text = f"{look.compared} images compared: {len(look.copies)} group(s) of copies ({images} images)"
        if look.copies and len(self.survey.splits_seen()) > 1 and not any(map(self._crosses, look.copies)):
            text += ", none on both sides of the split"
        return text

    def as_plain(self) -> dict[str, Any]:
        """What the survey says, and each group with its images."""
        look = self.look
        return {
            **self.survey.as_plain(),
            "duplicates": [self._plain(group) for group in look.duplicates],
            "copies": [self._plain(group) for group in look.copies],
            "scenes": [self._plain(group) for group in look.scenes],
            "compared_images": look.compared,
            "plain_images": look.plain,
            "warnings": self.warnings(),
        }

    def _leaks(self) -> Iterable[str]:
        trouble = "the score will be too good"
        yield from self._crossing(self.look.duplicates, "image(s) stand in train and in {}, byte for byte", trouble)
        yield from self._crossing(
            self._without_duplicates(self.look.copies),
            "photograph(s) stand in train and in {} as copies (turned, mirrored, cropped or saved anew)",
            trouble,
        )

    def _seen_before(self) -> Iterable[str]:
        yield from self._crossing(
            self.look.scenes,
            "pair(s) of photographs of the same thing stand in train and in {}",
            "the score says less about things that were never seen",
        )

    def _crossing(self, groups: Sequence[Group], text: str, trouble: str) -> Iterable[str]:
        for split in ("val", "test"):
            crossing = [group for group in groups if {"train", split} <= self._splits(group)]
            if crossing:
                example = self._example(crossing, lambda index: self.survey.files[index].split, ("train", split))
                yield f"{len(crossing)} {text.format(split)}: {trouble}; {example}"

    def _contradictions(self) -> Iterable[str]:
        for groups, text in (
            (self.look.duplicates, "image(s)"),
            (self._without_duplicates(self.look.copies), "photograph(s)"),
        ):
            differ = [group for group in groups if len(self._labels(group)) > 1]
            if differ:
                example = self._example(differ, lambda index: self.survey.files[index].label, self._labels(differ[0]))
                yield f"{len(differ)} {text} stand under different labels, and one of them is wrong: {example}"

    def _held_out(self) -> Iterable[str]:
        if "val" in self.survey.counts:
            return
        groups = [group for group in self.look.copies if self._splits(group) == {"train"}]
        if groups:
            yield (
                f"{len(groups)} group(s) of copies in train ({sum(map(len, groups))} images), and no val folder: some"
                " will be trained on and held out at once, and the score will be too good; make a val folder that keeps"
                f" each group on one side; {self._example(groups)}"
            )

    def _unreadable(self) -> Iterable[str]:
        bad = self.survey.unreadable
        if bad:
            named = "; ".join(f"{name}: {why}" for name, why in bad[:3]) + ("; ..." if len(bad) > 3 else "")
            yield f"{len(bad)} image(s) cannot be read and will be skipped (`max_unreadable` allows it): {named}"

    def _twins(self) -> Iterable[str]:
        groups = [group for group in self.look.duplicates if len(self._splits(group)) == 1]
        if groups:
            extra = sum(len(group) - 1 for group in groups)
            yield f"{extra} image(s) are byte-for-byte duplicates within their split; {self._example(groups)}"

    def _balance(self) -> Iterable[str]:
        counts = self.survey.counts.get("train", {})
        if not counts:
            return
        few = {name: count for name, count in counts.items() if count < _FEWEST}
        if few:
            names = ", ".join(f"{name} {count}" for name, count in list(few.items())[:6])
            yield f"{len(few)} class(es) have under {_FEWEST} images to train on: {names}"
        smallest, largest = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
        if counts[smallest] * _MOST_UNEVEN < counts[largest]:
            yield (
                f"the classes are uneven: {counts[smallest]} images of {smallest}, {counts[largest]} of {largest}"
                f" ({counts[largest] / max(1, counts[smallest]):.0f} times as many); accuracy hides the small ones"
            )

    def _found(self) -> tuple[Sequence[Group], Sequence[Group]]:
        return self.look.duplicates, self.look.copies

    def _without_duplicates(self, groups: Sequence[Group]) -> list[Group]:
        """Groups of copies that have anything beside byte-for-byte duplicates."""
        known = [set(group) for group in self.look.duplicates]
        return [group for group in groups if not any(set(group) <= one for one in known)]

    def _splits(self, group: Group) -> set[str]:
        return {self.survey.files[index].split for index in group}

    def _labels(self, group: Group) -> list[str]:
        return sorted({label for index in group if (label := self.survey.files[index].label)})

    def _crosses(self, group: Group) -> bool:
        return len(self._splits(group)) > 1

    def _has(self, index: int, name: str) -> bool:
        return name in self.survey.files[index].classes

    def _is_in(self, group: Group, name: str) -> bool:
        return any(self._has(index, name) for index in group)

    def _example(
        self, groups: Sequence[Group], kind: Callable[[int], str] = lambda _: "", kinds: Sequence[str] = ()
    ) -> str:
        """`a.jpg = b.jpg (and 3 more)`: one image of each of two kinds."""
        first = groups[0]
        shown = [next(index for index in first if kind(index) == one) for one in list(kinds)[:2]] or list(first[:2])
        names = " = ".join(self.survey.files[index].name for index in shown)
        return f"{names}{f' (and {len(groups) - 1} more)' if len(groups) > 1 else ''}"

    def _plain(self, group: Group) -> list[dict[str, str]]:
        images = [self.survey.files[index] for index in group]
        return [{"image": image.name, "split": image.split, "class": image.label} for image in images]
