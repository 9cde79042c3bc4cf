"""Programs as folders of safetensors and JSON."""
