"""What the laptop and the machine agree on: file names, words, messages, patience. Both sides import it.

Standard library, Python 3.10, since the worker imports it on a bare machine. What stands here is written down nowhere
else: a test refuses a quoted file name, reason or phase in any other module of `cloudrun`.

    words.py       why a run ends, what the worker does, who ends a machine, exit codes
    run_folder.py  the names of the files in a run's folder, and which of them an attempt leaves behind
    outputs.py     the names of the results, on the machine and at home
    order.py       `order.json`: what the launch asks of the worker, and the budget's arithmetic
    messages.py    `result.json`, `status.json`, `stop`, `question.json`, `begin`, `progress.json`
    nodes.py       what the machines of one run say to one another
    timing.py      how long one process waits for another, and which of these times must be the longer

The laptop trusts none of these files: it reads them by `cloudrun/state/received.py`, whose models have the fields of
the types here, each with its limits.
"""
