"""A number as groups of digits with what separates them, and a look at what stands around it. Imports nothing of ours
but pii_text.

A number is read once and each format is tried on its groups. What surrounds it decides as much as the digits do: nearly
all digits of code are versions, times, hashes and coordinates.
"""

from libc.stdint cimport uint8_t, uint32_t

from lunaroute._fast.pii_text cimport (
    ALPHA, BLANK, DIGIT, WORD, Text, at, digit, escaped, has, invisible, point, run, starts, visible,
)

# --- reading --------------------------------------------------------------------------------------------------------
cdef Py_ssize_t separated(const Text *t, Py_ssize_t i, int *kind) noexcept nogil:
    """Where the next digit is behind a separator that begins at i, or -1. Line breaks with their indentation count as
    one, also as the two characters \\n."""
    cdef int k, bit, v, spaces = 0
    cdef uint32_t c
    cdef Py_ssize_t size
    kind[0] = 0
    for k in range(6):
        if i >= t.n:
            return -1
        c = t.p[i]
        size = 1
        if has(t.p[i], DIGIT):
            break
        if c >= 0x80:
            size = point(t, i, &c)
        if c == 0x20 or c == 0xA0 or 0x2000 <= c <= 0x200A or c == 0x202F or c == 0x205F or c == 0x3000:
            bit = SPACE
            spaces += 1
        elif c == 0x2D or 0x2010 <= c <= 0x2015 or c == 0x2212 or c == 0xFF0D:
            bit = HYPHEN
        elif c == 0x2E or c == 0xFF0E:
            bit = POINT
        elif c == 0x2F:
            bit = SLASH
        elif c == 0x28 or c == 0xFF08:
            bit = OPEN
        elif c == 0x29 or c == 0xFF09:
            bit = CLOSE
        elif c == 0x0A or c == 0x0D or (c == 0x5C and (at(t, i + 1) == c"n" or at(t, i + 1) == c"r")):
            bit = NEWLINE
            size = 2 if c == 0x5C or (c == 0x0D and at(t, i + 1) == 0x0A) else 1
            size = run(t, i + size, BLANK) - i if kind[0] & NEWLINE == 0 else size
        elif invisible(c):
            i += size
            continue
        elif digit(t, i, &v):
            break
        else:
            return -1
        if kind[0] & bit and (bit != SPACE or spaces > 2) or (kind[0] & NEWLINE and bit & (HYPHEN | POINT | SLASH)):
            return -1
        kind[0] |= bit if spaces < 2 else bit | GAP
        i += size
    if not digit(t, i, &v):
        return -1
    # 1. 2 is two sentences, 1/-2 is no number at all
    if kind[0] & POINT and kind[0] & (SPACE | HYPHEN | SLASH | NEWLINE):
        return -1
    if kind[0] & SLASH and kind[0] & (HYPHEN | NEWLINE):
        return -1
    return i


cdef void read(const Text *t, Py_ssize_t i, Number *num) noexcept nogil:
    """The groups that begin with the digit at i."""
    cdef int v, kind = 0, g
    cdef Py_ssize_t size, k
    num.count = num.groups = 0
    num.longer = False
    while True:
        g = num.groups
        num.first[g] = num.count
        num.separator[g] = kind
        num.starts[g] = i
        while True:
            size = digit(t, i, &v)
            if size == 0:
                k = visible(t, i)
                if k == i or not digit(t, k, &v):
                    break
                i = k
                continue
            if num.count == DIGITS:
                num.longer = True
                num.first[g + 1] = num.count
                num.ends[g] = i
                num.groups = g + 1
                return
            num.digits[num.count] = v
            num.count += 1
            i += size
        num.ends[g] = i
        num.groups = g + 1
        num.first[g + 1] = num.count
        i = separated(t, i, &kind)
        if i < 0:
            return
        if num.groups == GROUPS:
            num.longer = True
            return


cdef int shape(const Number *num, int groups) noexcept nogil:
    """The sizes of the first groups as hexadecimal digits, 15 for more: 0x334 is three, three, four."""
    cdef int g, code = 0
    for g in range(groups):
        code = code << 4 | (size_of(num, g) if size_of(num, g) < 15 else 15)
    return code


cdef int separators(const Number *num, int groups) noexcept nogil:
    """Which kinds of separators stand between the first groups."""
    cdef int g, kinds = 0
    for g in range(1, groups):
        kinds |= num.separator[g]
    return kinds


cdef int value(const Number *num, int first, int size) noexcept nogil:
    cdef int k, total = 0
    for k in range(first, first + size):
        total = total * 10 + num.digits[k]
    return total


# --- what surrounds a number ----------------------------------------------------------------------------------------
cdef bint joined(const Text *t, Py_ssize_t i, Py_ssize_t last) noexcept nogil:
    """Whether what begins at i is the rest of something longer: a2, 1.2, v-2, a/2, .5; not behind the last match."""
    cdef uint8_t c
    if i == 0 or i - 1 <= last:
        return False
    c = t.p[i - 1]
    if has(c, WORD):
        return not escaped(t, i)
    if c == c"." or c == c"$" or c == c"#":
        return True
    if c == c"-" or c == c"/" or c == c"+" or c == c"*" or c == c"^":
        return has(at(t, i - 2), WORD) or at(t, i - 2) == c")" or at(t, i - 2) == c"."
    return c == c":" and has(at(t, i - 2), DIGIT)


cdef bint summand(const Text *t, Py_ssize_t i) noexcept nogil:
    """Whether the + at i adds something to what stands before it."""
    return i > 0 and (has(t.p[i - 1], WORD) and not escaped(t, i) or t.p[i - 1] == c")" or t.p[i - 1] == c"]")


cdef bint goes_on(const Text *t, Py_ssize_t end) noexcept nogil:
    """Whether the token goes on behind `end`: 2a, 2.1, 2-b, 2_000, 2%."""
    cdef uint8_t c = at(t, end), after
    if has(c, WORD):
        return True
    after = at(t, end + 1)
    if c == c".":
        return has(after, WORD)
    if c == c"-" or c == c"+" or c == c"*" or c == c"^" or c == c":":
        return has(after, WORD)
    return False


cdef bint lonely(const Text *t, Py_ssize_t start, Py_ssize_t end) noexcept nogil:
    """No other number beside it on its line, as in tables, and no letter of a path's command, as in SVG."""
    cdef Py_ssize_t i = start
    cdef uint8_t c
    while i > 0 and has(t.p[i - 1], BLANK):
        i -= 1
    if i > 0:
        c = t.p[i - 1]
        if has(c, DIGIT) or c in b".[{" or (c in b",-+;|:" and has(at(t, i - 2), DIGIT)):
            return False
        # one letter alone: M 10 20; but not I, a, s'
        if i < start and has(c, ALPHA) and not has(at(t, i - 2), WORD) and c not in b"Ia" and at(t, i - 2) != c"'":
            return False
    i = run(t, end, BLANK)
    c = at(t, i)
    if has(c, DIGIT):
        return False
    if i < t.n and c in b",.-+;|:":
        return not has(at(t, run(t, i + 1, BLANK)), DIGIT)
    return not has(c, ALPHA) or has(at(t, i + 1), WORD) or c in b"Ia"


