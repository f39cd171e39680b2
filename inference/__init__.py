"""What is learned from the detector: parameters, likelihoods, samplers, fits."""
