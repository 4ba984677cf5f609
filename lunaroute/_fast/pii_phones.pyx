"""Telephone numbers: international ones, and those of the United States, Britain, Germany, France and India as they are
written there. Imports nothing of ours but pii_text, pii_digits and pii_words.
"""

from libc.stdint cimport uint8_t

from lunaroute._fast.pii_digits cimport (
    CLOSE, HYPHEN, NEWLINE, OPEN, POINT, SLASH, SPACE, Number, goes_on, joined, lonely, separators, shape, size_of,
    summand, value,
)
from lunaroute._fast.pii_text cimport ALNUM, BLANK, DIGIT, HEX, PHONE, WORD, Span, Text, at, has, run, starts
from lunaroute._fast.pii_words cimport A_PHONE, hints

PHONE_NAMES = ["phone", "us_phone", "uk_phone", "de_phone", "fr_phone", "in_phone"]

cdef enum:
    ANY_PHONE, US_PHONE, UK_PHONE, DE_PHONE, FR_PHONE, IN_PHONE


cdef int country(const uint8_t *d, int n, int *low, int *high) noexcept nogil:
    """The size of the country code that these digits begin with, 0 where there is none, and how many digits may follow
    (ITU-T E.164 and its list of assigned codes; national plans)."""
    cdef int one = d[0], two, three
    if n < 4:
        return 0
    two = one * 10 + d[1]
    three = two * 10 + d[2]
    low[0], high[0] = 7, 12
    if one == 1:
        low[0] = high[0] = 10
        return 1 if d[1] >= 2 else 0
    if one == 7:
        low[0] = high[0] = 10
        return 1 if d[1] >= 3 else 0
    if two == 33 or two == 34 or two == 48 or two == 61 or two == 91 or two == 41:
        low[0], high[0] = 9, 10
        return 2
    if two == 49 or two == 43:
        low[0], high[0] = 6, 13
        return 2
    if (two == 20 or two == 27 or 30 <= two <= 34 or two == 36 or two == 39 or two == 40 or two == 41 or 44 <= two <= 48
            or 51 <= two <= 58 or 60 <= two <= 66 or two == 81 or two == 82 or two == 84 or two == 86 or 90 <= two <= 95
            or two == 98):
        return 2
    if one == 2:                # 210, 214, 215, 217, 219, 259, 28x and others are not assigned
        return 3 if (211 <= three <= 213 or three == 216 or three == 218 or 220 <= three <= 258 or 260 <= three <= 269
                     or three == 290 or three == 291 or 297 <= three <= 299) else 0
    low[0] = 5
    if one == 3:
        return 3 if 350 <= three <= 359 or 370 <= three <= 389 and three != 384 and three != 388 else 0
    if one == 4:
        return 3 if three == 420 or three == 421 or three == 423 else 0
    if one == 5:
        return 3 if 500 <= three <= 509 or 590 <= three <= 599 else 0
    if one == 6:
        return 3 if 670 <= three <= 692 and three != 671 and three != 684 else 0
    if one == 8:
        return 3 if three in (800, 808, 850, 852, 853, 855, 856, 870, 878, 880, 881, 882, 883, 886, 888) else 0
    if one == 9:
        return 3 if 960 <= three <= 979 and three != 969 and three != 978 or 992 <= three <= 998 and three != 997 else 0
    return 0


cdef int international(const Number *num, int skip) noexcept nogil:
    """How many groups are a number with its country code, whose first digit is the one at `skip`; 0 where none is."""
    cdef int low = 0, high = 0, code = country(num.digits + skip, num.count - skip, &low, &high), g, n, best = 0
    if not code:
        return 0
    for g in range(1, num.groups + 1):
        n = num.first[g] - skip - code
        if g > 1:
            if num.separator[g - 1] & NEWLINE and n - size_of(num, g - 1) >= low:
                break           # a line break only where the number is not done yet
            # +49 (0)30 123456: the zero is dialled inside the country only
            if num.separator[g - 1] & OPEN and num.digits[num.first[g - 1]] == 0:
                low, high = low + 1, high + 1
        if n > high:
            break
        if n >= low:
            best = g
    if code == 1 and num.digits[skip] == 1 and best:
        # the North American plan: area and exchange do not begin with 0 or 1
        if num.digits[skip + 1] < 2 or num.count < skip + 11:
            return 0
    return best


cdef bint nanp(const Number *num, int first) noexcept nogil:
    """Area code and exchange of the North American plan (NANPA: [2-9]xx each)."""
    return num.digits[first] >= 2 and num.digits[first + 3] >= 2


cdef bint counting(const Number *num, int count) noexcept nogil:
    """0123456789, 9876543210, 0000000: what people type to fill a field."""
    cdef int k, up = 0, down = 0, same = 0
    for k in range(1, count):
        up += num.digits[k] == (num.digits[k - 1] + 1) % 10
        down += (num.digits[k] + 1) % 10 == num.digits[k - 1]
        same += num.digits[k] == num.digits[k - 1]
    return up >= count - 1 or down >= count - 1 or same >= count - 1


cdef bint among_bytes(const Text *t, const Number *num) noexcept nogil:
    """Whether five pairs are rather bytes of a dump: more of them beside, or each the same step from the one before."""
    cdef Py_ssize_t start = num.starts[0], end = num.ends[4]
    cdef int k, step = value(num, 2, 2) - value(num, 0, 2)
    cdef bint steady = True
    for k in range(2, 5):
        steady &= value(num, 2 * k, 2) - value(num, 2 * k - 2, 2) == step
    return steady or pair(t, start - 3) and pair(t, start - 6) or pair(t, end + 1) and pair(t, end + 4)


cdef bint pair(const Text *t, Py_ssize_t i) noexcept nogil:
    """Whether two hexadecimal digits stand alone at i."""
    return (has(at(t, i), HEX) and has(at(t, i + 1), HEX)
            and not has(at(t, i - 1), ALNUM) and not has(at(t, i + 2), ALNUM))


cdef int national(const Text *t, const Number *num, int *name, bint *sure) noexcept nogil:
    """How many groups are a number of the United States, Britain, Germany, France or India by their form; 0 for none.
    sure: the form alone tells; else nothing like it may stand beside it."""
    cdef int three = shape(num, 3) if num.groups >= 3 else 0
    cdef int kinds, bare
    name[0], sure[0] = US_PHONE, True
    # NANP: (415) 555-2671, 415-555-2671, 415.555.2671, 415 555 2671, with 1 before them
    if num.groups >= 4 and shape(num, 4) == 0x1334 and num.digits[0] == 1 and nanp(num, 1):
        kinds = separators(num, 4)
        sure[0] = kinds & (HYPHEN | OPEN | POINT) != 0
        return 4
    if three == 0x334 and nanp(num, 0):
        kinds = separators(num, 3)
        if (not kinds & NEWLINE or kinds & (HYPHEN | CLOSE)) and not kinds & OPEN and not num.separator[2] & CLOSE:
            if kinds & POINT and kinds & ~(POINT | CLOSE):
                return 0
            sure[0] = kinds == HYPHEN or kinds == POINT or kinds & CLOSE
            sure[0] |= num.separator[1] == SPACE and num.separator[2] == HYPHEN
            return 3
    if num.groups >= 2 and num.open and num.separator[1] & CLOSE and shape(num, 2) == 0x37 and nanp(num, 0):
        return 2
    if num.digits[0] != 0 or num.count < 9 or (num.digits[1] == 0 and num.groups < 3):
        # India: 98765 43210
        if num.groups < 2 or shape(num, 2) != 0x55 or num.digits[0] < 6:
            return 0
        if num.separator[1] == SPACE or num.separator[1] == HYPHEN:
            name[0], sure[0] = IN_PHONE, False
            return 2
        return 0
    if num.digits[1] == 0:      # 00 49 30 123456
        return 0
    # France: 01 23 45 67 89
    if num.groups >= 5 and shape(num, 5) == 0x22222:
        kinds = separators(num, 5) & ~NEWLINE
        if (kinds == SPACE or kinds == POINT or kinds == HYPHEN) and not among_bytes(t, num):
            name[0], sure[0] = FR_PHONE, kinds == POINT
            return 5
        return 0
    if num.groups < 2:
        return 0
    bare = num.separator[1] & ~NEWLINE
    if shape(num, 2) == 0x65 and num.digits[1] >= 6:       # India, with its trunk 0
        name[0], sure[0] = IN_PHONE, bare == HYPHEN
        return 2
    # Britain (Ofcom): 01632 960123, 020 7946 0123, 07700 900123, 0161 496 0123, 01632 96 0123
    if three == 0x344 or three == 0x434 or three == 0x533 or three == 0x443 or three == 0x524:
        kinds = separators(num, 3) & ~(NEWLINE | OPEN | CLOSE)
        if kinds == SPACE or kinds == HYPHEN:
            name[0], sure[0] = UK_PHONE, num.open or kinds == HYPHEN
            return 3
    if shape(num, 2) in (0x56, 0x47, 0x38) and num.digits[1] != 0:
        name[0] = UK_PHONE if num.digits[1] in (1, 2, 7) else DE_PHONE
        sure[0] = num.open or bare & (SLASH | HYPHEN) != 0
        return 2
    # Germany (DIN 5008, Bundesnetzagentur): 030 123456, 030/123456, (0621) 12345-67, 0151 23456789
    if shape(num, 2) == 0x54 and not num.open:
        return 0                # a ZIP code of the United States
    if 3 <= num.first[1] <= 5 and 4 <= size_of(num, 1) <= 8 and num.first[2] >= 9 and num.first[2] <= 12:
        name[0], sure[0] = DE_PHONE, num.open or bare & SLASH != 0 or (bare == HYPHEN and num.first[2] >= 10)
        if num.groups > 2 and num.separator[2] == HYPHEN and size_of(num, 2) <= 4 and num.first[3] <= 12:
            return 3
        return 2
    return 0


cdef Py_ssize_t extension(const Text *t, Py_ssize_t end) noexcept nogil:
    """Behind the extension of a number: x123, ext. 123, extension 123, #123 (RFC 3966 has ;ext=)."""
    cdef Py_ssize_t i = run(t, end, BLANK), k
    if i - end > 2:
        return end
    if starts(t, i, b";ext=", 5):
        i += 5
    elif starts(t, i, b"extension", 9):
        i += 9
    elif starts(t, i, b"ext", 3):
        i += 3
        if at(t, i) == c".":
            i += 1
    elif at(t, i) == c"x" or at(t, i) == c"X":
        i += 1
    else:
        return end
    i = run(t, i, BLANK)
    k = run(t, i, DIGIT)
    return k if i < k <= i + 6 and not has(at(t, k), WORD) else end


cdef bint phone(const Text *t, const Number *num, Py_ssize_t last, Span *found) noexcept nogil:
    cdef int groups = 0, name = ANY_PHONE, g, n, skip = 0
    cdef bint sure = False
    cdef Py_ssize_t end
    if num.count < 7:
        return False
    if num.plus:
        if num.start > last and summand(t, num.start):
            return False
        groups = international(num, 0)
        sure = True
        if groups:
            n = num.digits[0] * 10 + num.digits[1]
            name = (US_PHONE if num.digits[0] == 1 else UK_PHONE if n == 44 else DE_PHONE if n == 49
                    else FR_PHONE if n == 33 else IN_PHONE if n == 91 else ANY_PHONE)
            if goes_on(t, num.ends[groups - 1]) and extension(t, num.ends[groups - 1]) == num.ends[groups - 1]:
                return False
    else:
        if joined(t, num.start, last):
            return False
        if num.digits[0] == 0 and num.digits[1] == 0 and 3 <= num.first[1] <= 5 and num.groups > 1:
            groups = international(num, 2)      # 00 49 30 123456 (ITU-T E.123)
            sure = separators(num, groups) & (HYPHEN | OPEN) != 0
            if groups:
                name = US_PHONE if num.digits[2] == 1 else ANY_PHONE
        if not groups:
            groups = national(t, num, &name, &sure)
    if groups:
        end = extension(t, num.ends[groups - 1])
        if end == num.ends[groups - 1] and goes_on(t, end):
            groups = 0
        elif not num.plus:
            # goes on in the same way: 123-456-7890-12
            if num.groups > groups and num.separator[groups] & (HYPHEN | POINT | SLASH) and end == num.ends[groups - 1]:
                groups = 0
            elif not sure and not lonely(t, num.start, end):
                groups = 0
    if not groups or counting(num, num.first[groups]):
        groups = spoken_of(t, num)
        if not groups:
            return False
        name = ANY_PHONE
        end = extension(t, num.ends[groups - 1])
        if end == num.ends[groups - 1] and goes_on(t, end):
            return False
    found.kind, found.name = PHONE, name
    found.start, found.end = num.start, end
    return True


cdef int spoken_of(const Text *t, const Number *num) noexcept nogil:
    """How many groups are a number of seven to fifteen digits that a word before it calls a phone's; 0 for none."""
    cdef int groups = 0, g
    for g in range(1, num.groups + 1):
        if g > 1 and num.separator[g - 1] & NEWLINE:
            break
        if 7 <= num.first[g] <= 15:
            groups = g
    if not groups or num.first[1] > 15 or (has(at(t, num.start - 1), BLANK) and has(at(t, num.start - 2), DIGIT)):
        return 0
    if not hints(t, num.start) & A_PHONE:
        return 0
    return groups


