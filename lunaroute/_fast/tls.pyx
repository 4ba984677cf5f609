"""TLS over memory buffers: ciphertext in, plaintext out, and back. No I/O.

In place of uvloop's TLS transport, which allocates 256 kB for each read, ends each with an exception and costs 4 us
more per exchange (benchmarks/README.md). The protocol itself is OpenSSL's through Python's ssl, as there.
"""

from cpython.bytes cimport PyBytes_GET_SIZE

import ssl

WantRead = ssl.SSLWantReadError

cdef enum:
    RECORD_MAX = 16384


cdef class Tls:
    def __cinit__(self, context, str host):
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.session = context.wrap_bio(self.incoming, self.outgoing, server_hostname=host)
        # SSLObject's methods are one Python frame around the C object's; the frame is spared where there is one
        native = getattr(self.session, "_sslobj", self.session)
        self.read = native.read
        self.seal = native.write
        self.unread = native.pending

    cdef bint shake(self, bytes data) except -1:
        """Go on with the handshake after `data`; True when it is done. Raises ssl.SSLError. left() must be sent."""
        if data is not None:
            self.incoming.write(data)
        try:
            self.session.do_handshake()
        except WantRead:
            return False
        self.ready = True
        return True

    cdef bytes decrypt(self, bytes data):
        """The plaintext that `data` completes; may be empty. Raises ssl.SSLError."""
        cdef bytes part
        cdef bytes whole = None
        cdef list parts = None
        cdef Py_ssize_t room = min(PyBytes_GET_SIZE(data), RECORD_MAX)
        self.incoming.write(data)
        while True:
            try:
                part = self.read(room)
            except WantRead:
                break
            if not part:
                self.closed = True
                break
            if whole is None:
                whole = part
            elif parts is None:
                parts = [whole, part]
            else:
                parts.append(part)
            # reading on where nothing is left would raise, which costs more than the two questions
            if self.incoming.pending == 0 and self.unread() == 0:
                break
        if parts is not None:
            return b"".join(parts)
        return b"" if whole is None else whole

    cdef bytes encrypt(self, object data):
        """Ciphertext for `data`."""
        self.seal(data)
        return self.outgoing.read()

    cdef bytes left(self):
        """What the session itself wants to send, or None: handshake messages, answers to key updates, alerts."""
        return self.outgoing.read() if self.outgoing.pending else None

    def peer_certificate(self):
        return self.session.getpeercert(True)
