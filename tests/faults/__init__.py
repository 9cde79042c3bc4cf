"""Faults from outside: processes that are killed while they write, and folders that someone has changed."""
