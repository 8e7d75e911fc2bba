"""An operator's tool for ``charge.parked``: list, show, replay and discard parked messages."""
