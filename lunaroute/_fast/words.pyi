def words_once(texts: list[str]) -> str:
    """The words of these texts with blanks between them, each of them once. Raises UnicodeEncodeError for half a
    surrogate pair."""
