"""The child process: rebuilds exchanges from the tap and turns them into records. Never touches a socket of the data path."""
