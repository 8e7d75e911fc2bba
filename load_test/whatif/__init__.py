"""What would have happened: recorded jobs, replayed in virtual time in another setting."""
