"""Very many inputs to everything that reads bytes from outside, guided by what they reach."""
