"""The control plane: what operators see and do, on aiohttp, away from the request path."""
