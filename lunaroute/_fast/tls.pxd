cdef class Tls:
    cdef object session                 # ssl.SSLObject
    cdef object incoming                # ssl.MemoryBIO
    cdef object outgoing
    cdef object read
    cdef object seal
    cdef object unread
    cdef readonly bint ready            # the handshake is done
    cdef readonly bint closed           # the peer said close_notify

    cdef bint shake(self, bytes data) except -1
    cdef bytes decrypt(self, bytes data)
    cdef bytes encrypt(self, object data)
    cdef bytes left(self)
