"""Measurements that take longer than a test should: what works, how fast, compared with what."""
