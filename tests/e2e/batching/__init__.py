"""What the end-to-end tests of batching have in common."""
