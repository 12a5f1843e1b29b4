"""How long a run will take and what it will cost, from figures and from earlier runs."""
