"""Networks that end in subspace methods against those methods alone: figures and tables of [NF] Section IV."""
