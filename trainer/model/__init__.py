"""The network, and its training targets, loss, optimizer and averaged weights."""
