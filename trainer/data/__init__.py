"""Images on disk -> augmented batches on the device."""
