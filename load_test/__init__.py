"""Sends charge requests to the running system and reports what became of each."""
