"""Read and check the job file, make the plan of it, and collect the code and keys that go along with a run."""
