"""The zoo: which networks can be slimmed, and how exactly."""
