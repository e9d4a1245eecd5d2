"""Rounds: the loop, the spool of replies, the update check, the checkpoints."""
