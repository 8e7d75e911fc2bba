"""A substation: charges the vehicles its queue brings, one on each connector at a time."""
