"""What a request costs, compared with what others need for the same; nothing else imports it."""
