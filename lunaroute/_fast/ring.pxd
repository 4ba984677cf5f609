from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t


cdef class Writer:
    cdef char *base                 # the whole mapping: header page, then data
    cdef char *data
    cdef uint64_t size              # bytes of data, a power of two
    cdef uint64_t head              # next byte to write, ever growing
    cdef uint64_t taken             # bytes of all events, without what was skipped
    cdef uint64_t tail              # last tail seen; reloaded only when space seems short
    cdef uint64_t reserve           # body pieces leave this much for open and close events
    cdef uint64_t high              # highest offset written since the pages were last given back
    cdef uint64_t populated             # pages up to here are there
    cdef readonly int ring_fd
    cdef readonly int wake_fd       # the reader's end
    cdef int bell_fd                # our end (the same descriptor where eventfd exists)
    cdef readonly str boot_id

    cdef int put(self, int kind, uint64_t exchange, int64_t time_ns,
                 const char *a, Py_ssize_t a_size, const char *b, Py_ssize_t b_size) noexcept nogil
    cdef void _skip(self, uint64_t offset, uint64_t fill) noexcept nogil
    cdef void _rewind(self, uint64_t offset, uint64_t fill) noexcept nogil
    cdef void _drop(self, int kind, uint64_t payload) noexcept nogil
    cdef void count(self, int counter, int64_t by) noexcept nogil
    cdef void wake(self) noexcept nogil


cdef class Reader:
    cdef char *base
    cdef char *data
    cdef readonly uint64_t size
    cdef uint64_t read_at
    cdef uint64_t unmapped              # position at which the read pages were last let go
    cdef int wake_fd
    cdef int64_t busy_at
    cdef readonly str boot_id

    cdef bint _follow(self) noexcept nogil
