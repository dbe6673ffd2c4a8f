"""Token rows, the sequence layout, and the batches that both models read."""
