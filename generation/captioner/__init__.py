"""A captioner of our own: examples from a strong endpoint, a LoRA fine-tune, and a model to serve."""
