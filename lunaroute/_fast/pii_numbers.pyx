"""What is made of digits: cards, social security numbers, phones, IPv4 addresses, IBANs. Imports nothing of ours but
pii_text and pii_words.

A number is read once, as groups of digits and what separates them, and each format is tried on its groups. What
surrounds it decides as much as the digits do: nearly all digits of code are versions, times, hashes and coordinates.
"""

from libc.stdint cimport uint8_t, uint32_t

from lunaroute._fast.pii_text cimport (
    ALNUM, ALPHA, BLANK, CREDIT_CARD, DIGIT, HEX, IBAN, IP, LOWER, NOTHING, PHONE, PRIVATE_ADDRESSES, SSN, Span, Text,
    UNDER, UPPER, WORD, at, digit, escaped, has, invisible, lower, point, run, run_back, starts, visible,
)
from lunaroute._fast.pii_words cimport A_CARD, A_PHONE, A_VERSION, AN_ADDRESS, AN_SSN, hints

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

CARD_NAMES = ["visa", "mastercard", "amex", "discover", "diners", "jcb", "unionpay", "maestro", "mir", "rupay", "troy"]
PHONE_NAMES = ["phone", "us_phone", "uk_phone", "de_phone", "fr_phone", "in_phone"]

cdef enum:
    VISA, MASTERCARD, AMEX, DISCOVER, DINERS, JCB, UNIONPAY, MAESTRO, MIR, RUPAY, TROY

cdef enum:
    ANY_PHONE, US_PHONE, UK_PHONE, DE_PHONE, FR_PHONE, IN_PHONE


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
        if kind[0] & bit and (bit != SPACE or spaces > 2):
            return -1
        kind[0] |= bit
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


cdef inline int size_of(const Number *num, int g) noexcept nogil:
    return num.first[g + 1] - num.first[g]


cdef int shape(const Number *num, int groups) noexcept nogil:
    """The sizes of the first groups as hexadecimal digits: 0x334 is three, three, four."""
    cdef int g, code = 0
    for g in range(groups):
        code = code << 4 | (size_of(num, g) & 15)
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
    if c == c"." or c == c"$" or c == c"#" and at(t, i - 2) == c"&":
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
        if has(c, DIGIT) or ((c == c"," or c == c"." or c == c"-" or c == c"+" or c == c";" or c == c"|" or c == c":") and i > 1
                             and has(t.p[i - 2], DIGIT)):
            return False
        if c == c"." or (c == c"," and i == start):
            return False
        if i < start and has(c, ALPHA) and not has(at(t, i - 2), WORD) and c != c"I" and c != c"a" and at(t, i - 2) != c"'":
            return False
        if c == c"[" or c == c"{":
            return False
    i = run(t, end, BLANK)
    c = at(t, i)
    if has(c, DIGIT):
        return False
    if c == c"," or c == c"." or c == c"-" or c == c"+" or c == c";" or c == c"|" or c == c":":
        return not has(at(t, run(t, i + 1, BLANK)), DIGIT)
    if has(c, ALPHA) and not has(at(t, i + 1), WORD) and c != c"I" and c != c"a":
        return False
    return True


# --- payment cards --------------------------------------------------------------------------------------------------
cdef bint luhn(const uint8_t *d, int n) noexcept nogil:
    """ISO/IEC 7812-1 annex B."""
    cdef int k, x, total = 0
    for k in range(n):
        x = d[n - 1 - k]
        if k & 1:
            x = 2 * x - 9 if x > 4 else 2 * x
        total += x
    return total % 10 == 0


cdef int scheme(const uint8_t *d, int n) noexcept nogil:
    """Whose card has this beginning and length, or -1 (ISO/IEC 7812, the schemes' own tables of issuer numbers)."""
    cdef int two = d[0] * 10 + d[1], four = two * 100 + d[2] * 10 + d[3], three = four // 10
    if d[0] == 4:
        return VISA if n == 13 or n == 16 or n == 19 else -1
    if 51 <= two <= 55 or 2221 <= four <= 2720:
        return MASTERCARD if n == 16 else -1
    if two == 34 or two == 37:
        return AMEX if n == 15 else -1
    if two == 36:
        return DINERS if 14 <= n <= 19 else -1
    if 300 <= three <= 305 or four == 3095 or two == 38 or two == 39:
        return DINERS if n == 14 or n >= 16 else -1
    if 3528 <= four <= 3589:
        return JCB if n >= 16 else -1
    if four == 2131 or four == 1800:
        return JCB if n == 15 else -1
    if four == 6011 or 644 <= three <= 649 or two == 65:
        return DISCOVER if n >= 16 else -1
    if two == 62 or two == 81:
        return UNIONPAY if n >= 16 else -1
    if 2200 <= four <= 2204:
        return MIR if n >= 16 else -1
    if four == 9792:
        return TROY if n == 16 else -1
    if two == 60 or two == 82 or three == 508:
        return RUPAY if n == 16 else MAESTRO if two == 60 or three == 508 else -1
    if two == 50 or 56 <= two <= 69 or four == 604:
        return MAESTRO if n >= 12 else -1
    return -1


cdef int card_groups(const Number *num) noexcept nogil:
    """How many groups are a card by its form: as printed on cards, or one run of digits; 0 where there is none."""
    cdef int groups, total, code, kinds, k
    cdef bint broken
    for groups in range(num.groups if num.groups < 5 else 5, 0, -1):
        total = num.first[groups]
        if not 13 <= total <= 19 and not (total == 12 and num.digits[0] >= 5):
            continue
        if groups > 1:
            kinds = separators(num, groups)
            broken = kinds & NEWLINE != 0
            kinds &= ~NEWLINE
            if kinds & (kinds - 1) or kinds & (OPEN | CLOSE | SLASH):
                continue
            if broken:
                # a line break anywhere, but once, and then the number is all there is
                if groups != num.groups or num.longer:
                    continue
                total = 0
                for k in range(1, groups):
                    total += num.separator[k] >> 4 & 1
                if total != 1 or (groups > 2 and not kinds) or num.first[1] < 3:
                    continue
            else:
                code = shape(num, groups)
                # 4-4-4-4 and what is printed of other lengths; 4-6-5, 4-6-4 (American Express, Diners); 6-13, 8-8
                if not (code >> 4 == 0x444 or code >> 4 == 0x4444 or code == 0x465 or code == 0x464 or code == 0x6D
                        or code == 0x88 or code == 0x67 or code == 0x6A):
                    continue
        if scheme(num.digits, num.first[groups]) >= 0 and luhn(num.digits, num.first[groups]):
            return groups
    return 0


cdef bint card(const Text *t, const Number *num, Py_ssize_t last, Span *found) noexcept nogil:
    cdef Py_ssize_t start = num.starts[0], end
    cdef int groups, k, hint, size = size_of(num, 0)
    cdef bint same = True
    if size != 4 and size != 6 and size < 8 and not (num.groups > 1 and num.separator[1] & NEWLINE):
        return False
    groups = card_groups(num)
    if not groups:
        return False
    end = num.ends[groups - 1]
    if joined(t, start, last) or goes_on(t, end):
        return False
    for k in range(1, num.first[groups]):
        if num.digits[k] != num.digits[0]:
            same = False
    if same:
        return False
    if groups == 1:
        # one number in ten passes Luhn's test: where code has many, something else must speak for a card
        hint = 0
        if num.first[1] == 12 or num.first[1] > 16 or num.first[1] == 13 or at(t, start - 1) == c"/":
            hint = hints(t, start)
            if num.first[1] == 12 and not hint & A_CARD:
                return False
    elif num.groups > groups and not (num.separator[groups] & NEWLINE) and size_of(num, groups) == size_of(num, groups - 1):
        return False            # the beginning of a row of numbers
    elif num.separator[1] & SPACE and start > 1 and has(t.p[start - 1], BLANK) and has(t.p[start - 2], DIGIT):
        return False            # its end
    found.kind, found.name = CREDIT_CARD, scheme(num.digits, num.first[groups])
    found.start, found.end = start, end
    return True


# --- social security numbers ----------------------------------------------------------------------------------------
cdef bint ssn(const Text *t, const Number *num, Py_ssize_t last, Span *found) noexcept nogil:
    """20 CFR 422.103 and the Social Security Administration's rules since 2011: no area 000, 666 or 9xx, no group 00,
    no serial 0000. Nine digits alone say nothing: they need a word before them."""
    cdef Py_ssize_t start = num.starts[0], end
    cdef int groups, area, kinds
    if num.first[1] == 3 and num.groups >= 3 and shape(num, 3) == 0x324:
        groups = 3
    elif num.first[1] == 9:
        groups = 1
    else:
        return False
    area = value(num, 0, 3)
    if area == 0 or area == 666 or area >= 900 or value(num, 3, 2) == 0 or value(num, 5, 4) == 0:
        return False
    end = num.ends[groups - 1]
    kinds = separators(num, groups)
    if joined(t, start, last) or goes_on(t, end) or kinds & (SLASH | OPEN | CLOSE):
        return False
    if num.groups > groups and num.separator[groups] & (HYPHEN | POINT | SLASH):
        return False
    if groups == 1 or (kinds & ~NEWLINE) & ((kinds & ~NEWLINE) - 1):
        if not hints(t, start) & AN_SSN:
            return False
    elif kinds & ~HYPHEN and not lonely(t, start, end) and not hints(t, start) & AN_SSN:
        return False
    found.kind, found.name = SSN, 0
    found.start, found.end = start, end
    return True


# --- IPv4 -----------------------------------------------------------------------------------------------------------
cdef bint ipv4_public(int a, int b, int c) noexcept nogil:
    """Whether a network is reachable from everywhere: none of IANA's special-purpose registry (RFC 6890), no multicast."""
    if a == 0 or a == 10 or a == 127 or a >= 224:
        return False
    if a == 100:
        return not 64 <= b <= 127
    if a == 169:
        return b != 254
    if a == 172:
        return not 16 <= b <= 31
    if a == 192:
        return b != 168 and not (b == 0 and (c == 0 or c == 2))
    if a == 198:
        return b != 18 and b != 19 and not (b == 51 and c == 100)
    return not (a == 203 and b == 0 and c == 113)


cdef bint ipv4(const Text *t, const Number *num, Py_ssize_t last, Span *found) noexcept nogil:
    cdef int k, hint
    cdef int[4] part
    cdef Py_ssize_t start = num.starts[0], end = num.ends[3]
    cdef uint8_t c, before = at(t, start - 1), before2 = at(t, start - 2)
    cdef bint small = True
    for k in range(4):
        if size_of(num, k) > 3 or (k and num.separator[k] != POINT):
            return False
        part[k] = value(num, num.first[k], size_of(num, k))
        if part[k] > 255 or (size_of(num, k) > 1 and num.digits[num.first[k]] == 0):
            return False
        small &= part[k] < 20
    if num.groups > 4 and num.separator[4] & POINT:
        return False
    # what it is part of: v1.2.3.4, pkg==1.2.3.4, ~1.2.3.4, Chrome/1.2.3.4 (but //1.2.3.4 and host/1.2.3.4:80 are addresses)
    c = at(t, end)
    if start - 1 > last and start > 0:
        if has(before, WORD):
            if not escaped(t, start):
                return False
        elif before == c"/":
            if has(before2, WORD) and not (c == c":" and has(at(t, end + 1), DIGIT)):
                return False
        elif before == c"=":
            if before2 == c"=" or before2 == c"~" or before2 == c">" or before2 == c"<" or before2 == c"!":
                return False
        elif before == c">":
            if before2 == c" " or before2 == c'"' or before2 == c"'" or start == 1:
                return False
        elif before == c"." or before == c"-" or before == c"+" or before == c"^" or before == c"~" or before == c"<" or before == c"$":
            return False
    if has(c, WORD) or ((c == c"." or c == c"+") and has(at(t, end + 1), WORD)):
        return False
    if c == c"-" and has(at(t, end + 1), WORD):
        # 1.2.3.4-5.6.7.8 is a range, 1.2.3.4-5 and 1.2.3.4-rc1 are versions
        if at(t, run(t, end + 1, DIGIT)) != c"." or run(t, end + 1, DIGIT) == end + 1:
            return False
    # arcs of object identifiers (X.520, X.509): 2.5.4.x, 2.5.29.x; 1.3.6.1
    if (part[0] == 2 and part[1] == 5 and (part[2] == 4 or part[2] == 29)) or (part[0] == 1 and part[1] == 3 and part[2] == 6):
        return False
    if not ipv4_public(part[0], part[1], part[2]) and not t.switches & PRIVATE_ADDRESSES:
        return False
    hint = hints(t, start)
    if hint & A_VERSION and not hint & AN_ADDRESS:
        return False
    if small and not hint & AN_ADDRESS and not (before == c"/" and before2 == c"/") and not (
            (c == c":" or c == c"/") and has(at(t, end + 1), DIGIT)):
        return False            # a section of a document, a version
    found.kind, found.name = IP, 0
    found.start, found.end = start, end
    return True


# --- phones ---------------------------------------------------------------------------------------------------------
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
            if num.first[g] - num.first[g - 1] >= 1 and num.separator[g - 1] & OPEN and num.digits[num.first[g - 1]] == 0:
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


cdef bint among_bytes(const Text *t, Py_ssize_t start, Py_ssize_t end) noexcept nogil:
    """Whether two hexadecimal digits stand on both sides, as in a dump."""
    return (run_back(t, start - 1, ALNUM, 3) == start - 3 and has(at(t, start - 2), HEX) and has(at(t, start - 3), HEX)
            and run(t, end + 1, ALNUM) == end + 3 and has(at(t, end + 1), HEX) and has(at(t, end + 2), HEX))


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
        if not kinds & NEWLINE or kinds & (HYPHEN | CLOSE):
            sure[0] = kinds & (HYPHEN | CLOSE) != 0 or kinds == POINT
            return 3
    if num.groups >= 2 and num.open and num.separator[1] & CLOSE and shape(num, 2) == 0x37 and nanp(num, 0):
        return 2
    if num.digits[0] != 0 or num.count < 9 or (num.digits[1] == 0 and num.groups < 3):
        # India: 98765 43210
        if num.groups >= 2 and shape(num, 2) == 0x55 and num.digits[0] >= 6 and num.separator[1] & (SPACE | HYPHEN):
            name[0], sure[0] = IN_PHONE, False
            return 2
        return 0
    if num.digits[1] == 0:      # 00 49 30 123456
        return 0
    # France: 01 23 45 67 89
    if num.groups >= 5 and shape(num, 5) == 0x22222:
        kinds = separators(num, 5) & ~NEWLINE
        if (kinds == SPACE or kinds == POINT or kinds == HYPHEN) and not among_bytes(t, num.starts[0], num.ends[4]):
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


cdef bint phone(const Text *t, Number *num, Py_ssize_t last, Span *found) noexcept nogil:
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
            name = US_PHONE if num.digits[0] == 1 else UK_PHONE if n == 44 else DE_PHONE if n == 49 else FR_PHONE if n == 33 else IN_PHONE if n == 91 else ANY_PHONE
            if goes_on(t, num.ends[groups - 1]) and extension(t, num.ends[groups - 1]) == num.ends[groups - 1]:
                return False
    else:
        if joined(t, num.start, last):
            return False
        if num.digits[0] == 0 and num.digits[1] == 0 and (num.first[1] == 3 or num.first[1] == 4 or num.first[1] == 5) and num.groups > 1:
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
    if not groups or num.first[1] > 15 or not hints(t, num.start) & A_PHONE:
        return 0
    return groups


# --- IBAN -----------------------------------------------------------------------------------------------------------
# The registry of ISO 13616-1 (SWIFT, release 99): country, length, and of what the account number is made (n digits, a
# capital letters, c either). Iran, Algeria and other countries outside of it have published theirs themselves.
IBANS = """
AD24:8n12c AE23:19n AL28:8n16c AT20:16n AZ28:4a20c BA20:16n BE16:12n BG22:4a6n8c BH22:4a14c BI27:23n BR29:23n1a1c
BY28:4c4n16c CH21:5n12c CR22:18n CY28:8n16c CZ24:20n DE22:18n DJ27:23n DK18:14n DO28:4c20n EE20:16n EG29:25n
ES24:20n FI18:14n FK18:2a12n FO18:14n FR27:10n11c2n GB22:4a14n GE22:2a16n GI23:4a15c GL18:14n GR27:7n16c GT28:24c
HN28:4a20n HR21:17n HU28:24n IE22:4a14n IL23:19n IQ23:4a15n IS26:22n IT27:1a10n12c JO30:4a4n18c KW30:4a22c KZ20:3n13c
LB28:4n20c LC32:4a24c LI21:5n12c LT20:16n LU20:3n13c LV21:4a13c LY25:21n MC27:10n11c2n MD24:20c ME22:18n MK19:3n10c2n
MN20:16n MR27:23n MT31:4a5n18c MU30:4a19n3a NI28:4a20n NL18:4a10n NO15:11n OM23:3n16c PK24:4a16c PL28:24n PS29:4a21c
PT25:21n QA29:4a21c RO24:4a16c RS22:18n RU33:14n15c SA24:2n18c SC31:4a20n3a SD18:14n SE24:20n SI19:15n SK24:20n
SM27:1a10n12c SO23:19n ST25:21n SV28:4a20n TL23:19n TN24:20n TR26:6n16c UA29:6n19c VA22:18n VG24:4a16n XK20:16n YE30:4a4n18c
DZ26:22n AO25:21n BF28:2c22n BJ28:2c22n CF27:23n CG27:23n CI28:2c22n CM27:23n CV25:21n GA27:23n GQ27:23n GW25:2c19n
IR26:22n KM27:23n MA28:24n MG27:23n ML28:2c22n MZ25:21n NE28:2a22n SN28:2a22n TD27:23n TG28:2a22n
"""

cdef enum:
    IBAN_MAX = 34

cdef uint8_t IBAN_SIZE[26 * 26]                 # by country, 0 where there is none
cdef uint8_t IBAN_FORM[26 * 26][IBAN_MAX]       # DIGIT, UPPER or both for each character behind the check digits


cdef register():
    for row in IBANS.split():
        head, _, form = row.partition(":")
        place = (ord(head[0]) - 65) * 26 + ord(head[1]) - 65
        IBAN_SIZE[place] = int(head[2:])
        at_, count = 4, ""
        for c in form:
            if c.isdigit():
                count += c
                continue
            for _ in range(int(count)):
                IBAN_FORM[place][at_] = {"n": DIGIT, "a": UPPER, "c": DIGIT | UPPER}[c]
                at_ += 1
            count = ""
        if at_ != IBAN_SIZE[place]:
            raise ValueError(f"{row}: {at_} characters")


register()


cdef Py_ssize_t iban(const Text *t, Py_ssize_t i, Span *found) noexcept nogil:
    """Behind the account number whose country code is at i, or 0. Groups of four by a blank, a hyphen, a point or a
    line break; all capitals or all small letters; ISO 7064 MOD 97-10."""
    cdef int a = lower(t.p[i]) - 97, b = lower(t.p[i + 1]) - 97, size, k = 0, v, rest = 0, form, kind = 0
    cdef uint8_t c
    cdef uint8_t[IBAN_MAX] seen
    cdef Py_ssize_t j = i, step
    cdef bint small = has(t.p[i], LOWER)
    if small != has(t.p[i + 1], LOWER) or (i > 0 and has(t.p[i - 1], WORD) and not escaped(t, i)):
        return 0
    size = IBAN_SIZE[a * 26 + b]
    if not size:
        return 0
    while True:
        if j >= t.n:
            return 0
        c = t.p[j]
        step = 1
        if has(c, ALPHA):
            if has(c, LOWER) != small and k < 2:
                return 0
            v = lower(c) - 87
            form = UPPER if has(c, LOWER) == small else 0
        else:
            step = digit(t, j, &v)
            form = DIGIT
            if not step:
                return 0
        if k >= 4 and not form & IBAN_FORM[a * 26 + b][k] or 2 <= k < 4 and form != DIGIT:
            return 0
        seen[k] = v
        k += 1
        j += step
        if k == size:
            break
        step = visible(t, j)
        if step != j:
            j = step
        elif k % 4 == 0 or k == 2:
            c = at(t, j)
            if c == c" " or c == c"-" or c == c".":
                j += 1
            elif c >= 0x80 and starts(t, j, b"\xc2\xa0", 2):
                j += 2
            if at(t, j) == c"\r":
                j += 1
            if at(t, j) == c"\n":
                j = run(t, j + 1, BLANK)
            elif at(t, j) == c"\\" and at(t, j + 1) == c"n":
                j += 2
    for k in range(size):
        v = seen[(k + 4) % size]
        rest = (rest * (100 if v > 9 else 10) + v) % 97
    if rest != 1 or has(at(t, j), WORD):
        return 0
    found.kind, found.name = IBAN, 0
    found.start, found.end = i, j
    return j


# --- all of them ----------------------------------------------------------------------------------------------------
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
