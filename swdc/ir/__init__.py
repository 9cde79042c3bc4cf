"""The Program (the traced model) and what describes it: its graph, its groups of channels, its plans."""
