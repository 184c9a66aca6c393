"""The pages of a search and of a study, and the pictures in them."""
