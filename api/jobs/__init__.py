"""The jobs, as the event log describes them."""
