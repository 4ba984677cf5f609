"""Protocol rules without I/O: bytes in, values out."""
