"""What begins with a digit."""

from lunaroute._fast.pii_text cimport Span, Text

cdef Py_ssize_t number(const Text *t, Py_ssize_t i, Py_ssize_t last, Span *found) noexcept nogil
