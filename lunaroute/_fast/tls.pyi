import ssl

class Tls:
    """TLS of one connection as a filter. context: verifies the peer; host: the name it must prove."""

    ready: bool
    closed: bool
    def __init__(self, context: ssl.SSLContext, host: str) -> None: ...
    def peer_certificate(self) -> bytes | None: ...
