"""Mail addresses."""

from lunaroute._fast.pii_text cimport Span, Text

cdef Py_ssize_t email(const Text *t, Py_ssize_t i, Py_ssize_t size, Span *found) noexcept nogil
