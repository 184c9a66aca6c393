"""ADD 2022: train and dev; see README.md."""
