"""Decides. No asyncio, no clock, no sockets, no logging: time and randomness are arguments."""
