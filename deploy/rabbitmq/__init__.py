"""What a RabbitMQ node needs to know before it starts."""
