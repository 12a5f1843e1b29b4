"""Runs beside the worker where a job has a store: `python -m cloudrun.uploader RUN_DIR`.

A process of its own, because it needs boto3 and the worker has to start without; and because whatever the
network does to it, the worker and the job go on. It keeps the bucket's copy of a run's folder up to date:

    BUCKET/PREFIX/<run id>/
      out/                  as on the machine, without temporary files; nothing is ever removed
      log.txt, log.index    as far as they had come
      status.json
      result.json           last of all: whoever finds it finds all that it speaks of
"""
