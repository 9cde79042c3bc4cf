"""What a program costs: parameters, operations, milliseconds."""
