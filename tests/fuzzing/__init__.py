"""Random networks to check the compiler on: blocks of many kinds, each network rebuilt from plain numbers."""
