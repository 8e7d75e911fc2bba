"""Sends charge requests to the running system, and reports what happened to each."""
