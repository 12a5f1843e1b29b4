"""The use cases, one a file: the order in which things happen, never the mechanism."""
