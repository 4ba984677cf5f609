def lengthen(percent: int) -> int:
    """Make this thread's slice longer by `percent`; the nanoseconds it has now, 0 where nothing was changed."""
