"""What the experiments share: data, tasks, methods, the training loop, rows and pictures."""
