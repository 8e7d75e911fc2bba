"""The Grafana dashboard, as a program that writes its JSON."""
