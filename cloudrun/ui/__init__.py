"""The pages of `cloudrun ui`: runs in a browser, served on this computer's loopback alone, read-only.

`access.py` decides who may read, `site.py` answers a path, `server.py` speaks HTTP. `records.py` keeps what was read of
the ledger, `live.py` looks at a run that goes on, `events.py` sends what has changed. Nothing here writes: the ledger,
the machines and the results stay as they are.
"""
