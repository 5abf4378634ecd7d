"""Tests of bert_jax.cli."""
