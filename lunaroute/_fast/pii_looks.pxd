"""What a value looks like: a secret, a word, something that stands for a secret."""

from libc.stdint cimport uint8_t

from lunaroute._fast.pii_names cimport What

cdef enum:
    VALUE_MAX = 512

cdef bint filler(const uint8_t *p, Py_ssize_t n) noexcept nogil
cdef bint lettered(const uint8_t *p, Py_ssize_t n) noexcept nogil
cdef bint worth(const uint8_t *p, Py_ssize_t n, What what, bint quoted) noexcept nogil
cdef bint basic(const uint8_t *p, Py_ssize_t n) noexcept nogil
