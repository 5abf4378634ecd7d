"""Text to batches, in numpy; nothing here imports jax."""
