"""What a middleware adds to a request that asks for nothing: no sockets, no framework, two messages."""
