"""The HTTP interface: accepts charge requests, and reports what happened to them."""
