"""Files of tensors and folders, written whole or not at all."""
