"""How the services are run: in containers, or as processes on one machine."""
