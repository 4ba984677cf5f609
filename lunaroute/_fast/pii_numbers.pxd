"""What is made of digits: cards, social security numbers, phones, IPv4 addresses, IBANs."""

from lunaroute._fast.pii_text cimport Span, Text

cdef Py_ssize_t number(const Text *t, Py_ssize_t i, Py_ssize_t last, Span *found) noexcept nogil
cdef Py_ssize_t iban(const Text *t, Py_ssize_t i, Span *found) noexcept nogil
cdef bint ipv4_public(int a, int b, int c) noexcept nogil
