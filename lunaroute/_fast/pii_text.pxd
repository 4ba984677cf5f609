"""What the matchers of personal data and secrets share: a text, a span, classes of bytes, code points.

Everything here is inlined into the module that uses it. Reads never leave `p[0:n]`. Imports nothing of ours.
"""

from libc.stdint cimport int8_t, uint8_t, uint16_t, uint32_t

cdef enum:                      # classes of bytes, as bits
    DIGIT = 1
    UPPER = 2
    LOWER = 4
    HEX = 8                     # 0-9 a-f A-F
    UNDER = 16                  # _
    DASH = 32                   # -
    PLUS = 64                   # + / of base64
    DOT = 128
    HIGH = 256                  # part of a character outside ASCII
    BLANK = 512                 # space, tab
    EQUAL = 1024                # = of base64
    TILDE = 2048
    LINE = 4096                 # \r \n
    ALPHA = UPPER | LOWER
    ALNUM = DIGIT | ALPHA
    WORD = ALNUM | UNDER
    SLUG = WORD | DASH          # base64url
    BASE64 = ALNUM | PLUS

cdef enum Kind:                 # in the order of pii.KINDS
    EMAIL, PHONE, SSN, CREDIT_CARD, IP, IBAN, SECRET
    NOTHING = -1

cdef enum:                      # switches of a Scanner
    PRIVATE_ADDRESSES = 1
    RESERVED_DOMAINS = 2

ctypedef struct Text:
    const uint8_t *p
    Py_ssize_t n
    const uint8_t *context      # what stood before p
    Py_ssize_t context_n
    int switches

ctypedef struct Span:
    Py_ssize_t start
    Py_ssize_t end
    int kind
    int name                    # index into the names of the kind

cdef extern from *:
    """
    #ifndef LR_PII_TEXT
    #define LR_PII_TEXT
    static const unsigned short lr_class[256] = {
        ['0' ... '9'] = 1 | 8, ['A' ... 'F'] = 2 | 8, ['G' ... 'Z'] = 2, ['a' ... 'f'] = 4 | 8, ['g' ... 'z'] = 4,
        ['_'] = 16, ['-'] = 32, ['+'] = 64, ['/'] = 64, ['.'] = 128, [0x80 ... 0xFF] = 256, [' '] = 512, ['\\t'] = 512,
        ['='] = 1024, ['~'] = 2048, ['\\r'] = 4096, ['\\n'] = 4096,
    };
    #endif
    """
    const uint16_t lr_class[256]


cdef inline bint has(uint8_t c, int classes) noexcept nogil:
    return lr_class[c] & classes != 0


cdef inline uint8_t lower(uint8_t c) noexcept nogil:
    return c | 0x20 if lr_class[c] & UPPER else c


cdef inline uint8_t at(const Text *t, Py_ssize_t i) noexcept nogil:
    """The byte at i; 0 outside of the text."""
    return t.p[i] if 0 <= i < t.n else 0


cdef inline Py_ssize_t run(const Text *t, Py_ssize_t i, int classes) noexcept nogil:
    """Behind the bytes of these classes that begin at i."""
    while i < t.n and lr_class[t.p[i]] & classes:
        i += 1
    return i


cdef inline Py_ssize_t run_at_most(const Text *t, Py_ssize_t i, int classes, Py_ssize_t most) noexcept nogil:
    cdef Py_ssize_t end = t.n if most > t.n - i else i + most
    while i < end and lr_class[t.p[i]] & classes:
        i += 1
    return i


cdef inline Py_ssize_t run_back(const Text *t, Py_ssize_t i, int classes, Py_ssize_t most) noexcept nogil:
    """Where the bytes of these classes begin that end before i; `most` of them are looked at."""
    cdef Py_ssize_t stop = i - most if i > most else 0
    while i > stop and lr_class[t.p[i - 1]] & classes:
        i -= 1
    return i


cdef inline Py_ssize_t back_to(const Text *t, Py_ssize_t i, int classes, Py_ssize_t most) noexcept nogil:
    """Behind the last byte of these classes before i; `most` bytes are looked at."""
    cdef Py_ssize_t stop = i - most if i > most else 0
    while i > stop and not lr_class[t.p[i - 1]] & classes:
        i -= 1
    return i


cdef inline bint starts(const Text *t, Py_ssize_t i, const char *word, Py_ssize_t size) noexcept nogil:
    """Whether this word, in lower case, stands at i in any case."""
    cdef Py_ssize_t k
    if i < 0 or size > t.n - i:
        return False
    for k in range(size):
        if lower(t.p[i + k]) != <uint8_t>word[k]:
            return False
    return True


cdef inline Py_ssize_t point(const Text *t, Py_ssize_t i, uint32_t *value) noexcept nogil:
    """The code point at i and its size; 0xFFFD and 1 where the bytes are no UTF-8. i < n."""
    cdef uint8_t c = t.p[i]
    cdef Py_ssize_t size, k
    if c < 0x80:
        value[0] = c
        return 1
    size = 2 if 0xC2 <= c < 0xE0 else 3 if 0xE0 <= c < 0xF0 else 4 if 0xF0 <= c < 0xF5 else 0
    value[0] = 0xFFFD
    if size == 0 or size > t.n - i:
        return 1
    value[0] = c & (0xFF >> (size + 1))
    for k in range(1, size):
        if t.p[i + k] & 0xC0 != 0x80:
            value[0] = 0xFFFD
            return 1
        value[0] = value[0] << 6 | (t.p[i + k] & 0x3F)
    return size


cdef inline Py_ssize_t point_before(const Text *t, Py_ssize_t i, uint32_t *value) noexcept nogil:
    """The code point that ends before i and its size. i > 0."""
    cdef Py_ssize_t k = i - 1
    while k > 0 and i - k < 4 and t.p[k] & 0xC0 == 0x80:
        k -= 1
    if point(t, k, value) == i - k:
        return i - k
    value[0] = 0xFFFD
    return 1


cdef inline bint invisible(uint32_t c) noexcept nogil:
    """Soft hyphen, zero-width space and (non-)joiner, direction marks, word joiner, byte order mark."""
    return c == 0xAD or 0x200B <= c <= 0x200F or 0x202A <= c <= 0x202E or c == 0x2060 or c == 0xFEFF


cdef inline Py_ssize_t visible(const Text *t, Py_ssize_t i) noexcept nogil:
    """i, or behind the invisible characters that begin there; a handful of them are looked at."""
    cdef uint32_t c
    cdef Py_ssize_t size
    cdef int k
    for k in range(8):
        if i >= t.n or t.p[i] < 0x80:
            return i
        size = point(t, i, &c)
        if not invisible(c):
            return i
        i += size
    return i


cdef inline bint letter(uint32_t c) noexcept nogil:
    """Whether a code point above ASCII may stand in the name of a mailbox or a host (RFC 6531, RFC 5890: letters, marks
    and digits of the scripts that have any use there), and not what people put around a name."""
    return ((0xC0 <= c < 0x250 and c != 0xD7 and c != 0xF7) or 0x370 <= c < 0x2000 or 0x3005 <= c <= 0x3007
            or 0x3040 <= c < 0x3100 or 0x3400 <= c < 0xA000 or 0xAC00 <= c < 0xD7B0
            or 0xFF10 <= c <= 0xFF19 or 0xFF21 <= c <= 0xFF3A or 0xFF41 <= c <= 0xFF5A)


cdef inline Py_ssize_t digit(const Text *t, Py_ssize_t i, int *value) noexcept nogil:
    """The size of the digit at i, full-width ones too; 0 where there is none."""
    if i >= t.n:
        return 0
    if lr_class[t.p[i]] & DIGIT:
        value[0] = t.p[i] - 48
        return 1
    if t.p[i] == 0xEF and i + 2 < t.n and t.p[i + 1] == 0xBC and 0x90 <= t.p[i + 2] <= 0x99:
        value[0] = t.p[i + 2] - 0x90
        return 3
    return 0


cdef inline bint escaped(const Text *t, Py_ssize_t i) noexcept nogil:
    """Whether the letter before i is the end of an escape that was left in the text: \\n, \\r, \\t, or a %20."""
    if i < 2:
        return False
    if t.p[i - 2] == 0x5C:
        return t.p[i - 1] == c"n" or t.p[i - 1] == c"r" or t.p[i - 1] == c"t"
    return i >= 3 and t.p[i - 3] == c"%" and has(t.p[i - 1], HEX) and has(t.p[i - 2], HEX)
