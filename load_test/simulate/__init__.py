"""The dispatcher's decisions in virtual time: its real policy and ledger, simulated substations."""
