"""Runs everything in containers, where a Docker engine with Compose v2 answers."""
