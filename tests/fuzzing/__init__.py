"""Random networks for the fuzz bench: blocks of many kinds, composed at random, each rebuilt from plain numbers."""
