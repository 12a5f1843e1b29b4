"""What this computer remembers: the ledger of runs, machines that were seen, and what machines reported."""
