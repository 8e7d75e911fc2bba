"""What is measured of single parts, each beside its goal; nothing else imports it."""
