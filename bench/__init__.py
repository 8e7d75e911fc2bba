"""What a request costs, beside what others need for the same; nothing else imports it."""
