"""FoR, Fake or Real, in its four versions; see README.md."""
