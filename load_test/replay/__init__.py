"""Real charging sessions, replayed against the running system."""
