"""The dispatcher's decisions in virtual time: the very policy and ledger, simulated substations."""
