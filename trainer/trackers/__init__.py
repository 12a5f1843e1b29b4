"""Pass the rows of metrics.jsonl on to the user's tracker: Weights & Biases, MLflow or Aim.

Each tracker is a process of its own that reads the file: a tracker that fails, or never answers, holds up no step. Nor
can its threads hold a lock at the moment when the trainer forks its loader processes.
"""
