"""Data, recipes and the training loop (needs the extra `train`)."""
