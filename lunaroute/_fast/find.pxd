from libc.stdint cimport uint8_t


cdef inline Py_ssize_t sequence(const uint8_t *p, Py_ssize_t n) noexcept nogil:
    """Bytes of the UTF-8 sequence that begins here (Unicode table 3-7); 0 where it is none."""
    cdef uint8_t lead = p[0], low = 0x80, high = 0xBF
    cdef Py_ssize_t size, i
    if lead < 0xC2 or lead > 0xF4:
        return 0
    size = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
    if n < size:
        return 0
    if lead == 0xE0: low = 0xA0
    elif lead == 0xED: high = 0x9F
    elif lead == 0xF0: low = 0x90
    elif lead == 0xF4: high = 0x8F
    if p[1] < low or p[1] > high:
        return 0
    for i in range(2, size):
        if p[i] < 0x80 or p[i] > 0xBF:
            return 0
    return size
