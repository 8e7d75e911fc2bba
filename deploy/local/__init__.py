"""Runs everything as processes on this machine, where there is no Docker engine."""
