"""The network, and what it learns with: targets, loss, optimiser, averaged weights."""
