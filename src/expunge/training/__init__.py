"""How a model is trained: recipe, run, the one optimiser loop, and what it cost."""
