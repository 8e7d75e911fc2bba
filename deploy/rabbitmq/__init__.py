"""The configuration of a RabbitMQ node: definitions, users and permissions."""
