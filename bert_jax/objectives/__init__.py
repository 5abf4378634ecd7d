"""Outputs and labels to {name: (sum, count)}: losses are sums and counts, never means.

The step adds them over microbatches and devices and divides once, so that any split of a batch has the same
gradient. (TF BERT took a mean on each core, in which an example with few predictions weighs more.)
"""
