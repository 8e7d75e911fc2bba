"""The decision: what is known of each substation, who waits, and who goes where. Pure."""
