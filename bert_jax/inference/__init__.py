"""A model to ask: one class, and how it embeds texts, fills masks and answers for a task."""
