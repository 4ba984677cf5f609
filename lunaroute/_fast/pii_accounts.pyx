"""Payment cards, social security numbers, IBANs. Imports nothing of ours but pii_text, pii_digits and pii_words."""

from libc.stdint cimport uint8_t

from lunaroute._fast.pii_digits cimport (
    CLOSE, GAP, HYPHEN, NEWLINE, OPEN, POINT, SLASH, SPACE, Number, goes_on, joined, lonely, separators, shape,
    size_of, value,
)
from lunaroute._fast.pii_text cimport (
    ALPHA, BLANK, CREDIT_CARD, DIGIT, IBAN, LINE, LOWER, SSN, UPPER, WORD, Span, Text, at, digit, escaped, has,
    lower, run, run_back, starts, visible,
)
from lunaroute._fast.pii_words cimport AN_SSN, A_CARD, hints

CARD_NAMES = ["visa", "mastercard", "amex", "discover", "diners", "jcb", "unionpay", "maestro", "mir", "rupay", "troy"]

cdef enum:
    VISA, MASTERCARD, AMEX, DISCOVER, DINERS, JCB, UNIONPAY, MAESTRO, MIR, RUPAY, TROY


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
    if two == 35:               # 3528 to 3589
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
            if kinds & (kinds - 1) or kinds & (OPEN | CLOSE | SLASH | GAP) or (broken and kinds & POINT):
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


cdef bint in_row(const Text *t, const Number *num, int groups) noexcept nogil:
    """Whether numbers stand before or behind in the same way, as in a table: groups of four are often four numbers."""
    cdef Py_ssize_t end = run(t, num.ends[groups - 1], BLANK), start = num.starts[0]
    if end - num.ends[groups - 1] > 1 and has(at(t, end), DIGIT):
        return True
    if separators(num, groups) & (SPACE | NEWLINE):
        if start > 1 and has(t.p[start - 1], BLANK) and has(t.p[start - 2], DIGIT):
            return True
        if separators(num, groups) & NEWLINE and not lonely(t, start, num.ends[groups - 1]):
            return True
        # one number more may be what is printed on its back; two are a row
        if num.groups > groups + 1 and num.separator[groups] == SPACE and num.separator[groups + 1] == SPACE:
            return True
    return num.groups > groups and num.separator[groups] == SPACE and size_of(num, groups) == size_of(num, groups - 1)


cdef bint bare_number(const Text *t, Py_ssize_t start) noexcept nogil:
    """Whether it is a number to the language of the text rather than a string or a word."""
    cdef uint8_t before = at(t, start - 1)
    return before != 0 and (before in b":=[(/" or (before == c"," and has(at(t, start - 2), DIGIT)))


cdef bint literal(const Text *t, Py_ssize_t start, Py_ssize_t end) noexcept nogil:
    """Whether a run of digits is a number of code: an item of an array, `x = 12;`, `f(x, 12)`."""
    cdef Py_ssize_t i = run_back(t, start, BLANK, 8)
    cdef uint8_t before = at(t, i - 1), behind = at(t, end)
    cdef bint item = before == c"["
    if before == c"," and i < start and i >= 2:
        item = has(t.p[i - 2], WORD) or t.p[i - 2] in b")]}"
    if before == c"=" and i < start:
        return behind == c";" or behind == c","
    return item and (behind == c"]" or behind == c")" or (behind == c"," and has(at(t, end + 1), BLANK | LINE)))


cdef bint card(const Text *t, const Number *num, Py_ssize_t last, Span *found) noexcept nogil:
    cdef Py_ssize_t start = num.starts[0], end
    cdef int groups, k, size = size_of(num, 0)
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
        # one number in ten passes Luhn's test: where code has many, something else must speak for a card. 17 and 18
        # digits have the identifiers of chats, 19 those of databases, 13 times in milliseconds
        size = num.first[1]
        if (size < 14 or size == 17 or size == 18 or (size == 19 and bare_number(t, start)) or literal(t, start, end)):
            if not hints(t, start) & A_CARD:
                return False
    elif in_row(t, num, groups):
        return False
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


# --- IBAN -----------------------------------------------------------------------------------------------------------
# The registry of ISO 13616-1 (SWIFT, release 101): country, length, and of what the account number is made (n digits, a
# capital letters, c either). Iran, Algeria and other countries outside of it have published theirs themselves.
IBANS = """
AD24:8n12c AE23:19n AL28:8n16c AT20:16n AZ28:4a20c BA20:16n BE16:12n BG22:4a6n8c BH22:4a14c BI27:23n BR29:23n1a1c
BY28:4c4n16c CH21:5n12c CR22:18n CY28:8n16c CZ24:20n DE22:18n DJ27:23n DK18:14n DO28:4c20n EE20:16n EG29:25n
ES24:20n FI18:14n FK18:2a12n FO18:14n FR27:10n11c2n GB22:4a14n GE22:2a16n GI23:4a15c GL18:14n GR27:7n16c GT28:24c
HN28:4a20n HR21:17n HU28:24n IE22:4a14n IL23:19n IQ23:4a15n IS26:22n IT27:1a10n12c JO30:4a4n18c KW30:4a22c KZ20:3n13c
LB28:4n20c LC32:4a24c LI21:5n12c LT20:16n LU20:3n13c LV21:4a13c LY25:21n MC27:10n11c2n MD24:20c ME22:18n MK19:3n10c2n
MN20:16n MR27:23n MT31:4a5n18c MU30:4a19n3a NI28:4a20n NL18:4a10n NO15:11n OM23:3n16c PK24:4a16c PL28:24n PS29:4a21c
PT25:21n QA29:4a21c RO24:4a16c RS22:18n RU33:14n15c SA24:2n18c SC31:4a20n3a SD18:14n SE24:20n SI19:15n SK24:20n
SM27:1a10n12c SO23:19n ST25:21n SV28:4a20n TL23:19n TN24:20n TR26:6n16c UA29:6n19c VA22:18n VG24:4a16n XK20:16n
YE30:4a4n18c
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


