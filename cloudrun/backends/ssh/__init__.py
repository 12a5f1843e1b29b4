"""Run jobs on a machine that the user can log in to, by its address: nothing is rented, installed by root, or kept."""
