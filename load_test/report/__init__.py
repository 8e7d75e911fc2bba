"""The report of a run: its figures beside their floors, as a page and as JSON."""
