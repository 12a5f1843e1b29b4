"""The files of a run: checkpoints, metrics, progress, timing, predictions, and the diagnosis of the curves."""
