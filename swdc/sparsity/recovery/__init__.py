"""Training a slim program until it is as good as the dense one."""
