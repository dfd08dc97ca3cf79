"""Touches the world on the data plane: HTTP/1.1 on sockets, the access log."""
