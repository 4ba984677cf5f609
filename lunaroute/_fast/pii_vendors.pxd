"""Secrets that have a form of their own: keys of vendors, JSON web tokens, private keys in PEM."""

from libc.stdint cimport uint8_t, uint32_t

from lunaroute._fast.pii_text cimport Span, Text

cdef uint32_t VENDOR[4][256]    # which buckets have a prefix with this byte at this place

cdef bint likely(const uint8_t *p, Py_ssize_t n) noexcept nogil
cdef Py_ssize_t vendor(const Text *t, Py_ssize_t i, uint32_t buckets, Span *found) noexcept nogil
cdef bint paired(const Text *t, const Span *first, Span *found) noexcept nogil
cdef Py_ssize_t jwt(const Text *t, Py_ssize_t i, Span *found) noexcept nogil
cdef Py_ssize_t pem(const Text *t, Py_ssize_t i, Span *found) noexcept nogil
