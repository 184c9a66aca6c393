"""ASVspoof 2019: logical (LA) and physical access (PA); see README.md."""
