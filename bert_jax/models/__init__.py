"""Batches to hidden states to logits, in Flax Linen."""
