"""Stand in for the person at the console: keep what was said and asked, or ignore it."""

from __future__ import annotations

from dataclasses import dataclass, field

from cloudrun.runs.console import Console


def nothing(*_: object) -> None:
    """Ignore what is said."""
    return


class Said(list[str]):
    """All that was said, line by line."""

    def __call__(self, text: str) -> None:
        self.append(text)


@dataclass
class Told:
    """A person: `lines` were shown to them, `questions` were asked."""

    lines: list[str] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)

    def console(self, *, says: bool | None = None) -> Console:
        def agree(question: str, _: float) -> bool:
            self.questions.append(question)
            return bool(says)

        return Console(self.lines.append, self.lines.append, lambda *_: None, agree=None if says is None else agree)
