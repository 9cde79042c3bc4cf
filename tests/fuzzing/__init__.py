"""Random networks to check the compiler on: blocks of many kinds, each network can be rebuilt from plain numbers."""
