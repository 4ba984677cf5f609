"""What begins with a digit: reads the number and asks each of the formats. Imports nothing of ours but them, pii_digits
and pii_text.
"""

from libc.stdint cimport uint8_t

from lunaroute._fast.pii_accounts cimport card, iban, ssn
from lunaroute._fast.pii_addresses cimport ipv4
from lunaroute._fast.pii_digits cimport CLOSE, POINT, Number, read
from lunaroute._fast.pii_phones cimport phone
from lunaroute._fast.pii_text cimport (
    ALPHA, BLANK, DASH, DIGIT, DOT, HEX, LINE, NOTHING, WORD, Span, Text, at, escaped, has, run,
)

cdef bint hopeless(const Text *t, Py_ssize_t i, Py_ssize_t last, Py_ssize_t *end) noexcept nogil:
    """Whether a look at the first digits is enough; where they end. Nine numbers of ten in code go this way."""
    cdef Py_ssize_t first = run(t, i, DIGIT), second
    cdef uint8_t before = at(t, i - 1), c = at(t, first)
    end[0] = first
    if i - 1 > last and (before == c"." or before == c"-" and has(at(t, i - 2), WORD | DOT)):
        return True             # .5, 1-2: the rest of something
    if c < 0x80 and first - i < 7 and not has(c, BLANK | LINE | DASH | DOT) and c not in b"/()\\":
        return True
    if c == c" " and first - i < 12 and has(before, BLANK) and has(at(t, i - 2), DIGIT):
        return True             # in a row of numbers
    if c == c"." and first - i <= 3:
        second = run(t, first + 1, DIGIT)
        return second - first <= 4 and at(t, second) != c"." and at(t, second) < 0x80
    return False


cdef Py_ssize_t number(const Text *t, Py_ssize_t i, Py_ssize_t last, Span *found) noexcept nogil:
    """What begins with (or has its first digit at) i, in `found`; where to go on. last: behind the last match."""
    cdef Number num
    cdef uint8_t before = t.p[i - 1] if i else 0
    cdef Py_ssize_t end
    cdef int v
    found.kind = NOTHING
    if has(before, WORD) and i - 1 > last and not escaped(t, i):
        end = run(t, i, DIGIT)
        return end if end > i else i + 1
    if before == c"%" and has(t.p[i], HEX) and has(at(t, i + 1), HEX):
        return i + 2            # %20: what follows may be a number, this is none
    if before == c" " and i >= 3 and has(t.p[i - 2], ALPHA) and has(t.p[i - 3], ALPHA):
        if iban(t, i - 3, found):
            return found.end
    if t.p[i] < 0x80 and hopeless(t, i, last, &end):
        return end
    read(t, i, &num)
    if num.longer and num.groups == 1:
        return run(t, num.ends[0], DIGIT)
    end = num.ends[0]
    if num.groups == 1 and num.count < 7:
        return end
    num.plus = num.open = False
    num.start = i
    if before == c"+":
        num.plus, num.start = True, i - 1
    elif before == 0x8B and i >= 3 and t.p[i - 2] == 0xBC and t.p[i - 3] == 0xEF:
        num.plus, num.start = True, i - 3       # full-width
    elif before == c"B" and i >= 3 and t.p[i - 2] == c"2" and t.p[i - 3] == c"%":
        num.plus, num.start = True, i - 3       # a query's +
    elif before == c"(":
        num.open = True
        if i >= 2 and t.p[i - 2] == c"+":
            num.plus, num.start = True, i - 2
        elif num.groups > 1 and num.separator[1] & CLOSE:
            num.start = i - 1
    if num.plus and num.start > 0 and t.p[num.start - 1] == c"(" and num.groups > 1 and num.separator[1] & CLOSE:
        num.start -= 1
    if num.groups >= 4 and num.separator[1] == POINT and num.first[1] <= 3 and ipv4(t, &num, last, found):
        return found.end
    if card(t, &num, last, found) or ssn(t, &num, last, found) or phone(t, &num, last, found):
        return found.end
    return end
