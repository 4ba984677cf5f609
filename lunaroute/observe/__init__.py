"""The child process: exchanges are rebuilt from the tap and become records. No socket of the data path is in reach."""
