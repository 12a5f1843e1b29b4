"""Read a data set of images on disk: folders, labels, splits. For laptop and trainer; without torch."""
