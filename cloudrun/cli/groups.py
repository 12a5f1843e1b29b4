"""How commands are listed: grouped by task, each with its whole summary; and what an unknown command is told."""

from __future__ import annotations

from typing import Any

from typer import Context
from typer.core import TyperGroup

from cloudrun.errors import UsageError

# The tasks, in the order in which a newcomer meets them.
START = "Before the first run"
RUN = "Run"
LOOK = "Look at a run"
RESULTS = "Results and the bill"
MORE = "More"

# Within a task, in the order in which they are used; others follow.
_ORDER = (
    *("demo", "doctor", "clouds", "gpus", "init", "check", "advise", "notify", "launch", "resume", "tend"),
    *("watch", "logs", "ps", "ui"),
    *("fetch", "predict", "submit", "export", "report", "cost", "down", "ssh", "data", "help"),
)

# Words of other tools for what has another name here.
_MEANT = {
    "cancel": "down",
    "delete": "down",
    "download": "fetch",
    "jobs": "ps",
    "kill": "down",
    "list": "ps",
    "ls": "ps",
    "price": "gpus",
    "prices": "gpus",
    "run": "launch",
    "start": "launch",
    "status": "ps",
    "stop": "down",
    "tail": "logs",
    "terminate": "down",
    "train": "launch",
    "up": "launch",
    "validate": "check",
    "version": "--version",
}


class Commands(TyperGroup):
    """A group of commands, listed by task. Without Rich, which would double the time of `--help`."""

    def list_commands(self, ctx: Context) -> list[str]:  # type: ignore[override]
        names = super().list_commands(ctx)
        return sorted(names, key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))

    def format_commands(self, ctx: Context, formatter: Any) -> None:  # type: ignore[override]
        tasks: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is None or command.hidden:
                continue
            panel = getattr(command, "rich_help_panel", None)
            task = panel if isinstance(panel, str) else "Commands"
            tasks.setdefault(task, []).append((name, command.get_short_help_str(1000)))
        order = [START, RUN, LOOK, RESULTS, MORE]
        for task in sorted(tasks, key=lambda one: order.index(one) if one in order else -1):
            with formatter.section(task):
                formatter.write_dl(tasks[task])

    def resolve_command(self, ctx: Context, args: list[str]) -> Any:  # type: ignore[override]
        meant = _MEANT.get(args[0])
        if ctx.parent is None and meant is not None and args[0] not in self.commands and not ctx.resilient_parsing:
            raise UsageError(
                f"there is no command `{args[0]}`; did you mean `cloudrun {meant}`?",
                hint=f"`cloudrun help {meant}` explains it"
                if meant in self.commands
                else "`cloudrun --help` lists all",
            )
        return super().resolve_command(ctx, args)
