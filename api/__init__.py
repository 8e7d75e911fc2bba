"""The door: takes charge requests over HTTP, and tells what became of them."""
