from collections.abc import Iterable

KINDS: tuple[str, ...]
NAMES: dict[str, tuple[str, ...]]

class Scanner:
    """Finds personal data and secrets in text.

    kinds: which of KINDS are reported; ValueError for any other. private_addresses, reserved_domains: also report what
    reaches nobody (10.0.0.1, ::1; joe@example.com), which is no personal data.
    """

    def __init__(
        self, kinds: Iterable[str], *, private_addresses: bool = False, reserved_domains: bool = False
    ) -> None: ...
    def find(
        self, text: bytes | bytearray | memoryview, context: bytes | bytearray | memoryview = b""
    ) -> list[tuple[int, int, str, str]]:
        """What is in `text` (UTF-8; other bytes are never part of a match): (start, end, kind, name), in order, none
        over another, in byte offsets. context: what stood before the text, such as the key of a JSON member.

        Both are bytes or another buffer of bytes; TypeError for anything else.
        """
