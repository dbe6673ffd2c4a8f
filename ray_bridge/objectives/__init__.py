"""The terms of the training objective, one module each."""
