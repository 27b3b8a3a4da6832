"""Settings of all tests that use torch."""

import torch
from hypothesis import settings

torch.set_num_threads(1)  # two threads wait for each other when anything else runs
settings.register_profile("torch", deadline=None)
settings.load_profile("torch")
