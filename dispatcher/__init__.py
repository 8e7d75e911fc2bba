"""The dispatcher: sends each charge request to the least loaded substation."""
