"""Networks made of cells: of one genotype, and of all of them at once."""
