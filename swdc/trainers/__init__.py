"""SWD and the baselines as callbacks of other trainers: ``swdc.trainers.lightning``, ``swdc.trainers.transformers``."""
