"""What bytes mean. A format turns a blob into named tensors, over whatever transport."""
