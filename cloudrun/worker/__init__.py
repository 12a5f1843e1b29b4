"""Runs beside the job, on the rented machine or here: `python -m cloudrun.worker RUN_DIR`.

It is started before set-up and data, so that the budget is watched from the first minute. Two processes:
the watchdog, which watches and ends the machine, and its child, the attempt, which does the work. They import
the standard library alone and run on Python 3.10 or newer: they have to start on a bare machine.

The folder RUN_DIR and the files in it are described in `cloudrun/protocol/`.
"""
