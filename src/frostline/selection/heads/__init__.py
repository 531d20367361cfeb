"""Several heads trained on the same batches: one contract, and one file for each way to compute them."""
