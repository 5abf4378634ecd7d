"""Optimizers, the compiled step, the loop, checkpoints and metrics."""
