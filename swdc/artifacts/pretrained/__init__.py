"""Checkpoints that transformers loads without swdc."""
