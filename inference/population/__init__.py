"""Fits of populations: posteriors by NUTS, profile likelihoods with asymptotic and toy intervals."""
