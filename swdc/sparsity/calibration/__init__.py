"""What a program computes on data: statistics of its channels, for criteria and for solving layers again."""
