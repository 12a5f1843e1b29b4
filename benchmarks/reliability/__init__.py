"""Do for real everything that can go wrong around a rented machine, and measure how long the machine stays after it.

    python -m benchmarks.reliability [--on slurm|aws|runpod] [WORD ...]     # WORD: only what has it in its name

Real SkyPilot, on a local Slurm or on a stand-in of a provider's API with machines that run (Debian, as root), real
signals, a real S3 server on loopback. Exits with 1 where a machine stayed longer than promised, the ledger does not
know that it is gone, a result was lost, or the receipt is more than 10 s from the provider's own times.
"""
