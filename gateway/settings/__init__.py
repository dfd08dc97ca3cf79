"""The configuration file as validated frozen records; imported by the composition root only."""
