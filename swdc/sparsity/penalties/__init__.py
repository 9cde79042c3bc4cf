"""What pulls: the penalties of SWD, their norms and schedules."""
