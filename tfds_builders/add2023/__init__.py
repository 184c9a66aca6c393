"""ADD 2023: tracks 1.2 (detection) and 3 (algorithms); see README.md."""
