"""What is measured of time and memory."""
