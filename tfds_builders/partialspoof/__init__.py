"""PartialSpoof: spoofed segments in genuine speech; see README.md."""
