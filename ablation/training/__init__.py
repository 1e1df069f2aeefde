"""One run: batches, model, losses, the training loop, evaluation and the ensemble."""
