"""How long one process waits for another, in seconds, and which of these times has to be the longer.

A time that only one process uses stands in that process's module. The times here are used by two processes: where one
time is changed alone, the inequalities below refuse the import.
"""

from __future__ import annotations

# The heartbeat, and whoever listens to it.
HEARTBEAT_EVERY_S = 2.0
LAST_WORD_SILENCE_S = 10.0  # without a new heartbeat for this long, a result that cannot be read is the last word
FOLLOWER_SILENCE_S = 20.0  # without a new heartbeat for this long, whoever follows asks the provider
assert LAST_WORD_SILENCE_S >= 5 * HEARTBEAT_EVERY_S
assert FOLLOWER_SILENCE_S >= LAST_WORD_SILENCE_S

# A job that is asked to stop.
JOB_GRACE_S = 30.0  # the worker gives a command this long after SIGTERM; the trainer saves within seconds
STOP_WAIT_S = 45.0  # `down` waits this long for the result, once it has asked
LOCAL_TERM_WAIT_S = 45.0  # the local backend waits this long after SIGTERM, before SIGKILL
LAST_WORDS_S = 60.0  # the watchdog waits this long for the attempt's process, once its result is there
STOP_PATIENCE_S = 75.0  # asked for this long and not ended: the watchdog kills all processes of the job
SAVE_PATIENCE_S = 20.0  # the job of an attempt whose worker was killed has this long to save
assert min(STOP_WAIT_S, LOCAL_TERM_WAIT_S, LAST_WORDS_S) > JOB_GRACE_S
assert STOP_PATIENCE_S > 2 * JOB_GRACE_S, "a command, and the one that brings its data, are stopped one after another"
assert SAVE_PATIENCE_S < JOB_GRACE_S

# Results that are safe, and the machine's end.
LAST_UPLOAD_S = 30.0  # the watchdog lets the uploader send the last files for this long
QUIET_WAIT_S = 30.0  # the uploader waits this long for a file that is still written to after the job's end
STORED_WAIT_S = 30.0  # whoever has fetched all waits this long for the bucket to have it, too
HOME_PATIENCE_S = 45.0  # whoever has fetched all ends the machine; after this long the watchdog does
WIPED_PATIENCE_S = 120.0  # `down` removes the folder, then has the machine ended; after this long the watchdog does
assert STORED_WAIT_S >= LAST_UPLOAD_S
assert HOME_PATIENCE_S > STORED_WAIT_S, "else the machine ends while its results are still awaited in the bucket"

# An attempt that makes way for the next one on the same machine.
WATCHDOG_LOOKS_EVERY_S = 0.5
UPLOADER_GRACE_S = 5.0  # the uploader has this long to let go of a file
DISMISSED_WITHIN_S = 10.0  # the other machines have this long to hear that the run is over
ATTEMPT_ENDS_S = 2.0  # `resume` waits this long for the watchdog to see `leave`
ATTEMPT_GOES_S = 12.0  # `resume` waits this long where there is a bucket or another machine
assert ATTEMPT_ENDS_S > 2 * WATCHDOG_LOOKS_EVERY_S
assert max(UPLOADER_GRACE_S, DISMISSED_WITHIN_S) < ATTEMPT_GOES_S

# Data on their way; the job file allows no shorter patience than a minute.
SHORTEST_DATA_PATIENCE_S = 60.0
DATA_BEAT_EVERY_S = 15.0  # while files are sent
DATA_EXPECTED_EVERY_S = 10.0  # before files are sent, while SkyPilot takes the job
assert 2 * max(DATA_BEAT_EVERY_S, DATA_EXPECTED_EVERY_S) < SHORTEST_DATA_PATIENCE_S

# Questions of the worker.
QUESTION_WAIT_S = 60.0  # an answer that does not come is a No: nobody is there
LONGEST_QUESTION_S = 600.0  # whoever follows waits no longer, whatever the file says
assert QUESTION_WAIT_S <= LONGEST_QUESTION_S

# Several machines.
NODE_TELLS_EVERY_S = 0.5
NODE_REQUEST_S = 20.0  # a request to the first machine may take this long
NODE_SILENCE_S = 120.0  # a machine that says nothing for this long is lost
NODE_BUDGET_PATIENCE_S = 120.0  # the first machine ends all of them by its budget; after this long each ends itself
assert NODE_SILENCE_S > 3 * NODE_REQUEST_S > NODE_TELLS_EVERY_S

# The end of the budget. SkyPilot's skylet, which is asked first, looks once a minute: the end comes up to 40 s early.
END_LEAD_S = 10.0
SKYPILOT_END_LEAD_S = 40.0
assert NODE_BUDGET_PATIENCE_S > SKYPILOT_END_LEAD_S
