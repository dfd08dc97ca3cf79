"""Waits. Owns tasks, timers, futures, permits. Imports core."""
