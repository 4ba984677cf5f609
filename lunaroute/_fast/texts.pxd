from libc.stdint cimport int64_t

cdef enum:
    STRING = 0      # the inside of a JSON string
    LOOSE = 1       # a text that may be written in escapes of any kind: backslashes as in JSON, %40 as in addresses
    FORM = 2        # a query or a form body: percent escapes, and + for a blank

cdef struct Run:
    int64_t at              # where it begins in the text
    int64_t start, end      # the raw bytes that it stands for

cdef class Text:
    cdef readonly bytes text
    cdef Run *runs
    cdef Py_ssize_t count, room
    cdef int64_t size
    cdef int style

    cdef int add(self, int64_t at, int64_t start, int64_t end) except -1
    cdef object written(self, bytes replacement)
    cdef Py_ssize_t run_of(self, int64_t at) noexcept

cdef struct Span:
    int64_t start, end
    bint escaped
    bint joint              # a line break stands between the one before and this one

cdef Text text_of(const char *p, const Span *spans, Py_ssize_t count, int style)
