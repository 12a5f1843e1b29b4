"""A data set of images on disk: folders, labels, splits. Read by the laptop and by the trainer; without torch."""
