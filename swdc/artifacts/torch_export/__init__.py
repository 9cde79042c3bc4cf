"""Programs as files of torch.export."""
