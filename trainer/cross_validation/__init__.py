"""Train one model a fold, and merge what the folds wrote."""
