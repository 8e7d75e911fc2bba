"""Fuzzing of everything that reads bytes from outside, guided by the code that inputs reach."""
