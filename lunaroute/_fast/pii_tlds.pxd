"""The top-level domains of the root zone. Imports nothing."""

from libc.stdint cimport uint8_t

cdef bint known(const uint8_t *name, Py_ssize_t size) noexcept nogil
