"""Go through a launch of `job.yaml` up to its question, with changes of the job: `... KEY=VALUE...`.

The step after the question would start SkyPilot's server, which would outlive the test.
"""

import sys
from pathlib import Path

from cloudrun.cli.forecast import is_agreed, show
from cloudrun.job.job_file import load_job
from cloudrun.runs.prepared import examine, prepare
from cloudrun.state.home import home_folder
from cloudrun.state.ledger import Ledger

if __name__ == "__main__":
    ledger = Ledger(home_folder())
    prepared = prepare(examine(load_job(Path("job.yaml"), overrides=sys.argv[1:]), ledger, print), ledger)
    show(prepared.forecast)
    print("agreed" if is_agreed(prepared.forecast, "Rent it?", yes=False) else "declined")
