from libc.stdint cimport uint64_t

cdef uint64_t siphash(const char *p, size_t n, uint64_t k0, uint64_t k1) noexcept nogil
