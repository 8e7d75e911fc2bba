"""What every service plugs into: the messages, the topology, the errors, and the edges they share."""
