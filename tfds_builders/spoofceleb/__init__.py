"""SpoofCeleb: VoxCeleb1 and 23 attacks; see README.md."""
