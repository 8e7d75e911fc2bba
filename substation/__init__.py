"""A substation: charges the vehicles of the jobs in its queue, one on each connector at a time."""
