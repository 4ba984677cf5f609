"""A number as groups of digits with what separates them, and a look at what stands around it."""

from libc.stdint cimport uint8_t

from lunaroute._fast.pii_text cimport Text

cdef enum:
    DIGITS = 40                 # an IBAN has 34 characters, nothing else has more
    GROUPS = 12

cdef enum:                      # what stands between two groups, as bits
    SPACE = 1
    HYPHEN = 2
    POINT = 4
    SLASH = 8
    NEWLINE = 16
    OPEN = 32
    CLOSE = 64
    GAP = 128                   # two blanks: columns of a table

ctypedef struct Number:
    int count                   # digits
    int groups
    bint longer                 # it goes on behind what was read
    bint plus                   # a + before it
    bint open                   # a ( before it
    Py_ssize_t start            # with + and (
    uint8_t digits[DIGITS]
    uint8_t first[GROUPS + 1]   # index of each group's first digit; behind the last group: count
    uint8_t separator[GROUPS + 1]   # before each group
    Py_ssize_t starts[GROUPS]
    Py_ssize_t ends[GROUPS]


cdef inline int size_of(const Number *num, int g) noexcept nogil:
    return num.first[g + 1] - num.first[g]


cdef void read(const Text *t, Py_ssize_t i, Number *num) noexcept nogil
cdef int shape(const Number *num, int groups) noexcept nogil
cdef int separators(const Number *num, int groups) noexcept nogil
cdef int value(const Number *num, int first, int size) noexcept nogil
cdef bint joined(const Text *t, Py_ssize_t i, Py_ssize_t last) noexcept nogil
cdef bint summand(const Text *t, Py_ssize_t i) noexcept nogil
cdef bint goes_on(const Text *t, Py_ssize_t end) noexcept nogil
cdef bint lonely(const Text *t, Py_ssize_t start, Py_ssize_t end) noexcept nogil
