"""The dispatcher's decisions in virtual time: its real scheduler, and simulated substations."""
