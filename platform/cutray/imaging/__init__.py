"""From picture bytes to arrays and back: decoding, colour, orientation, encoding and files."""
