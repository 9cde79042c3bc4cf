"""Passes and what runs them: masking, slimming, deploying, and the certificate."""
