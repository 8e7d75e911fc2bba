"""An operator's tool for ``charge.parked``: what is there, why, and what is to become of it."""
