"""Training on a TPU: the same packs, log, checkpoints and adapter as in `train`, computed by JAX and Tunix."""
