"""Files of tensors, read without the programs that wrote them."""
