"""`bert-jax VERB`: one small module a verb."""
