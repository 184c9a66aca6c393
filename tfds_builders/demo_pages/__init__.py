"""Demo pages: speech of 123 public repositories, see README.md."""
