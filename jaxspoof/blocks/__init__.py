"""What networks are built of: layers, recurrent layers, heads."""
