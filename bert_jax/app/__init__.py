"""The app: a page and a JSON API over models, for `bert-jax serve`."""
