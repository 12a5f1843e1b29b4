"""Commands beside training: predict, submit, overfit one batch, find a learning rate, measure speed."""
