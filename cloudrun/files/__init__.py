"""Reading and writing files that neither a crash, another process nor a stranger spoils."""
