"""What every service plugs into: messages, topology, errors, and the edges that all share."""
