"""What a run shows while it goes on: a live view on a terminal, else plain lines."""
