"""What this hospital allows and what may leave it."""
