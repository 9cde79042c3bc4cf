"""The penalties of SWD, their norms and schedules."""
