"""Values that only the name before them gives away."""

from lunaroute._fast.pii_text cimport Span, Text

cdef Py_ssize_t keyed(const Text *t, Py_ssize_t i, Span *found) noexcept nogil
cdef Py_ssize_t bearer(const Text *t, Py_ssize_t i, Span *found) noexcept nogil
cdef Py_ssize_t login(const Text *t, Py_ssize_t i, Span *found) noexcept nogil
cdef Py_ssize_t authority(const Text *t, Py_ssize_t i, Span *found) noexcept nogil
cdef void named_by_context(const Text *t, Span *found) noexcept nogil
