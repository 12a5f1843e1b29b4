"""Programs of the tests, run as `python -m tests.support.programs.NAME` with the checkout as the folder."""
