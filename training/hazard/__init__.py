"""Class likelihoods from hazard values, without an image."""
