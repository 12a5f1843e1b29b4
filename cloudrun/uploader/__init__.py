"""Keep the bucket's copy of a run's folder up to date, beside the worker: `python -m cloudrun.uploader RUN_DIR`.

The uploader is a process of its own, because it needs boto3 and the worker has to start without boto3; and because the
worker and the job go on whatever the network does to the uploader. It runs where the job has a store, and writes:

    BUCKET/PREFIX/<run id>/
      out/                  as on the machine, without temporary files; nothing is ever removed
      log.txt, log.index    as far as they had come
      status.json
      result.json           last of all: whoever finds it finds all results
"""
