"""ASVspoof 2021: LA, DF and PA, for evaluation; see README.md."""
