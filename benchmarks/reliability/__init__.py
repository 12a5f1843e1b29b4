"""Everything that can go wrong around a rented machine, done for real, and how long the machine stays after it.

    python -m benchmarks.reliability [WORD ...]      # all of it, or what has one of the words in its name

Real SkyPilot on a local Slurm (Debian, as root), real signals, a real S3 server on loopback. Exits with 1 where a
machine stayed longer than promised, the ledger does not know that it is gone, or a result was lost.
"""
