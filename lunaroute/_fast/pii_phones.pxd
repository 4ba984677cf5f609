"""Telephone numbers."""

from lunaroute._fast.pii_digits cimport Number
from lunaroute._fast.pii_text cimport Span, Text

cdef bint phone(const Text *t, const Number *num, Py_ssize_t last, Span *found) noexcept nogil
