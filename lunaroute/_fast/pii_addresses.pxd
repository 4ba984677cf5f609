"""IPv4 and IPv6 addresses."""

from lunaroute._fast.pii_digits cimport Number
from lunaroute._fast.pii_text cimport Span, Text

cdef bint ipv4(const Text *t, const Number *num, Py_ssize_t last, Span *found) noexcept nogil
cdef Py_ssize_t ipv6(const Text *t, Py_ssize_t i, Span *found) noexcept nogil
