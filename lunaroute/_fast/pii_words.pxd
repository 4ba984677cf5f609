"""Words before a value that say what it is (`phone: 2345678901`). Imports nothing of ours but pii_text."""

from lunaroute._fast.pii_text cimport Text

cdef enum Hint:                 # bits
    A_PHONE = 1
    AN_SSN = 2
    A_CARD = 4
    AN_ADDRESS = 8
    A_VERSION = 16
    AT_ONCE = 32                # the last word is that of a version

cdef int hints(const Text *t, Py_ssize_t start) noexcept nogil
