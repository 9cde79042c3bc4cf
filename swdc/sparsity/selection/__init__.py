"""Selection of the lowest of many numbers, and operations on the numbers that a mask selects."""
