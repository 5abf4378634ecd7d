"""Encoders of the BERT family in JAX: pretrain, compare, transfer."""

__version__ = "0.1.0"
