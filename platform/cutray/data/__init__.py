"""What networks learn from and are measured on: drawn scenes with exact alpha channels."""
