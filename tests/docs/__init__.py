"""The documentation: what is generated, what it links to, and the commands in it."""
