"""The job file: reading and checking it, the plan made of it, and the code and keys that a run takes along."""
