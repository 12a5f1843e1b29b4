"""How cloudrun is installed again with more in it: one command, named by every hint."""

from __future__ import annotations


def install_command(*extras: str) -> str:
    """Return the command that installs cloudrun as a tool with `extras`, in a shell's words.

    `--torch-backend cpu`: this computer trains on its CPU, and torch for CUDA is a download of 3 GB. A rented machine
    installs its own.
    """
    torch = "--torch-backend cpu " if "trainer" in extras else ""
    named = ",".join(extras)
    tool = f"uv tool install --force {torch}--with-executables-from skypilot"
    return f"`{tool} 'cloudrun-gpu[{named}]'` (in a clone `'.[{named}]'`; with each cloud that you use: `{named},aws`)"
