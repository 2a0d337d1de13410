"""`trader-mlops`: what stands, why it stands, and what a person may do about it."""
