"""What all services share: messages, topology, errors, and the links to RabbitMQ and HTTP."""
