"""What the commands share: models, inputs, weights, options, output."""
