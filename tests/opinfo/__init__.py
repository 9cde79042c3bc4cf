"""PyTorch's own sample inputs of its operators: each operator stands between two dense layers that lose channels."""
