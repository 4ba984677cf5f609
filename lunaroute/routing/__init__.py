"""Which provider answers, and with which head. No I/O, no clock of its own."""
