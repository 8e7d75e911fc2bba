"""Plans: when requests are due, and what each asks for. Pure, but for the reader of files."""
