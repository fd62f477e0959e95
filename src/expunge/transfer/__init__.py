"""From a source model to a target task: which source classes harm it, and how well it adapts.

After section 5 of "Model Sparsity Can Simplify Machine Unlearning" (Jia et al., NeurIPS 2023): forget
the source classes that harm the target task, then adapt.
"""
