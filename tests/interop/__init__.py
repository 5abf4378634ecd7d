"""Tests of bert_jax.interop."""
