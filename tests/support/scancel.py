"""Slurm's `scancel`, which ends the watchdog that calls it, as an allocation that ends does."""

SCANCEL = """\
#!/bin/sh
echo "$@" >> {folder}/scancel
kill -KILL $(cat {folder}/watchdog.pid)
"""
