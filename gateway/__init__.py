"""A self-hosted, high-throughput gateway in front of machine-learning scoring containers."""

__version__ = "0.1.0"
