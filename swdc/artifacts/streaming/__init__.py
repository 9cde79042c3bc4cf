"""Checkpoints slimmed tensor by tensor."""
