"""Runs beside the job, on the rented machine or here: `python -m cloudrun.worker RUN_DIR`.

It is started before set-up and data, so that the budget is watched from the first minute. Two processes:
the switch, which watches and ends the machine, and its child, the shift, which does the work. They import
the standard library alone and run on Python 3.10 or newer: they have to start on a bare machine.

    RUN_DIR/
      order.json     what to do (written by the launch)
      code/          cloudrun and trainer as they were at launch
      data/          the images; `data.ready` beside it once they are all there
      out/           what the job writes ($CLOUDRUN_OUTPUT)
      log.txt        everything, in order; log.index has the time of each stretch of it
      status.json    heartbeat
      result.json    written last
      shift.pid, job.pid
      stop, home     asked to stop (with the reason, where it was the switch); results are verified at home
      stored         results are verified in the store (written by the uploader)
      leave          the switch is to go and to leave the machine as it is
      question.json, answer   the corrected estimate breaks the budget; `yes` goes on
"""
