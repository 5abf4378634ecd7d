"""Continued pretraining of a model on a user's text, measured before and after."""
