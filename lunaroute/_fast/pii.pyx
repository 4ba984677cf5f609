"""Personal data and secrets in text: one pass finds where something may be, small matchers look closer.

Imports nothing of ours but the matchers. Four tables tell for each byte in which anchors it can stand at the first,
second, third and fourth place; what all four agree on is an anchor (the bit masks of Baeza-Yates and Gonnet's shift-or,
with as many patterns as a word has bits). Nothing else is done for the other bytes, some 97 of 100 in code.

Every matcher looks at a bounded stretch around its anchor or goes on behind what it has read, so the time is linear in
the text whatever the text is.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memset

from lunaroute._fast.pii_accounts cimport iban
from lunaroute._fast.pii_addresses cimport ipv6
from lunaroute._fast.pii_mail cimport email
from lunaroute._fast.pii_numbers cimport number
from lunaroute._fast.pii_text cimport NOTHING, PRIVATE_ADDRESSES, RESERVED_DOMAINS, SECRET, Span, Text
from lunaroute._fast.pii_values cimport authority, bearer, keyed, login, named_by_context
from lunaroute._fast.pii_vendors cimport VENDOR, jwt, paired, pem, vendor

from lunaroute._fast import pii_accounts, pii_names, pii_phones, pii_vendors

KINDS = ("email", "phone", "ssn", "credit_card", "ip", "iban", "secret")
SECRETS = [*pii_names.NAMES, *pii_vendors.NAMES]
NAMES = {
    "email": ("email",),
    "phone": tuple(pii_phones.PHONE_NAMES),
    "ssn": ("us_ssn",),
    "credit_card": tuple(pii_accounts.CARD_NAMES),
    "ip": ("ipv4", "ipv6"),
    "iban": ("iban",),
    "secret": tuple(name for name in dict.fromkeys(SECRETS) if name),
}
BY_KIND = [NAMES[kind] if kind != "secret" else SECRETS for kind in KINDS]

cdef int VENDORS_BEHIND = len(pii_names.NAMES)

cdef enum:                      # anchors, as bits; above them the buckets of vendors
    AT = 1
    NUMBER = 1 << 1
    WIDE = 1 << 2               # a full-width digit or @
    COLONS = 1 << 3             # of IPv6
    COLON = 1 << 4
    ENCODED_AT = 1 << 5         # %40
    ACCOUNT = 1 << 6            # of IBAN
    PEM = 1 << 7
    JWT = 1 << 8
    BEARER = 1 << 9
    AUTHORITY = 1 << 10         # ://
    LOGIN = 1 << 11             # -u user:password
    NAMED = 1 << 12             # and seven bits above it: names of secrets
    VENDORS_FROM = 32

cdef uint64_t[4][256] ANCHORS


def anchor(uint64_t bit, *places):
    """An anchor: up to four sets of bytes; any byte where one is left out."""
    for place in range(4):
        for c in places[place] if place < len(places) else range(256):
            ANCHORS[place][c] |= bit


cdef fill():
    digits = b"0123456789"
    letters = bytes(range(65, 91)) + bytes(range(97, 123))
    between = digits + b" -./()\n\r\\" + bytes((*range(0x80, 0xC0), 0xC2, 0xE2, 0xE3, 0xEF))
    anchor(AT, b"@")
    # nothing has less than seven digits, or four and three dots: three more digits or separators follow the first
    anchor(NUMBER, digits, between, between, between)
    anchor(WIDE, b"\xef", b"\xbc", (*range(0x90, 0x9A), 0xA0))
    anchor(COLONS, b":", b":")
    anchor(COLON, b":", b"0123456789abcdefABCDEF", b"0123456789abcdefABCDEF:")
    anchor(ENCODED_AT, b"%", b"4", b"0")
    anchor(ACCOUNT, letters, letters, digits, digits)
    anchor(PEM, b"-", b"-", b"B", b"E")
    anchor(JWT, b"e", b"y", b"J")
    anchor(BEARER, b"bB", b"eE", b"aA", b"rR")
    anchor(AUTHORITY, b":", b"/", b"/")
    anchor(LOGIN, b"-", b"u", b" ")
    anchor(LOGIN, b"s", b"e", b"r", b" ")
    # behind `key` anything but another letter of its word (keys, keyboard); behind `sig` what gives it a value
    behind = bytes(set(range(256)) - set(letters))
    for k, word in enumerate(("pass", "pwd", "secr", "toke", "key", "auth", "cred", "sig")):
        places = [(ord(c), ord(c.upper())) for c in word]
        if word in ("key", "pwd"):
            places.append(behind)
        elif word == "sig":
            places.append(b"=\"':")
        anchor(NAMED << k, *places)
    for place in range(4):
        for c in range(256):
            ANCHORS[place][c] |= <uint64_t>VENDOR[place][c] << VENDORS_FROM


fill()

cdef extern from *:
    """
    /* the next anchor at or behind i, n where there is none; four places at once, as most have none */
    static Py_ssize_t lr_next(const uint8_t *p, Py_ssize_t i, Py_ssize_t n, const uint64_t (*a)[256], uint64_t *bits) {
        while (i + 7 <= n) {
            uint64_t w = a[0][p[i]] & a[1][p[i + 1]] & a[2][p[i + 2]] & a[3][p[i + 3]];
            uint64_t x = a[0][p[i + 1]] & a[1][p[i + 2]] & a[2][p[i + 3]] & a[3][p[i + 4]];
            uint64_t y = a[0][p[i + 2]] & a[1][p[i + 3]] & a[2][p[i + 4]] & a[3][p[i + 5]];
            uint64_t z = a[0][p[i + 3]] & a[1][p[i + 4]] & a[2][p[i + 5]] & a[3][p[i + 6]];
            if (w | x | y | z) {
                if (w) { *bits = w; return i; }
                if (x) { *bits = x; return i + 1; }
                if (y) { *bits = y; return i + 2; }
                *bits = z; return i + 3;
            }
            i += 4;
        }
        for (; i < n; i++) {            /* the end: as if nothing but NUL came behind it */
            uint64_t w = a[0][p[i]] & a[1][i + 1 < n ? p[i + 1] : 0] & a[2][i + 2 < n ? p[i + 2] : 0]
                         & a[3][i + 3 < n ? p[i + 3] : 0];
            if (w) { *bits = w; return i; }
        }
        return n;
    }
    """
    Py_ssize_t lr_next(
        const uint8_t *p, Py_ssize_t i, Py_ssize_t n, const uint64_t (*a)[256], uint64_t *bits) noexcept nogil


cdef struct Found:
    Span *spans
    Py_ssize_t count
    Py_ssize_t room
    bint failed                 # no memory


cdef void add(Found *found, const Span *span) noexcept nogil:
    """One more span. One that meets an earlier one becomes part of it, under the name of the longer one: what two
    matchers claim is nobody's to leave standing."""
    cdef Span *last
    cdef Span *grown
    cdef Span merged = span[0]
    while found.count and found.spans[found.count - 1].end > merged.start:
        last = &found.spans[found.count - 1]
        if last.end - last.start >= merged.end - merged.start:
            merged.kind, merged.name = last.kind, last.name
        merged.start = min(last.start, merged.start)
        merged.end = max(last.end, merged.end)
        found.count -= 1
    if found.count == found.room:
        grown = <Span *>realloc(found.spans, (2 * found.room + 16) * sizeof(Span))
        if grown == NULL:
            found.failed = True
            return
        found.spans = grown
        found.room = 2 * found.room + 16
    found.spans[found.count] = merged
    found.count += 1


cdef Py_ssize_t formed(const Text *t, Py_ssize_t i, uint64_t bits, Span *span) noexcept nogil:
    """A secret that has a form of its own, at i."""
    cdef Py_ssize_t on = i + 1
    span.kind = NOTHING
    if bits >> VENDORS_FROM:
        on = vendor(t, i, <uint32_t>(bits >> VENDORS_FROM), span)
    if span.kind == NOTHING and bits & JWT:
        on = jwt(t, i, span)
    if span.kind == NOTHING and bits & PEM:
        on = pem(t, i, span)
    span.name += VENDORS_BEHIND
    return on


cdef Py_ssize_t secret(const Text *t, Py_ssize_t i, uint64_t bits, Span *span) noexcept nogil:
    """The secret whose anchor is at i, in `span`; where to go on."""
    cdef Py_ssize_t on = formed(t, i, bits, span)
    if span.kind == NOTHING and bits & AUTHORITY:
        on = authority(t, i, span)
    elif span.kind == NOTHING and bits & BEARER:
        on = bearer(t, i, span)
    elif span.kind == NOTHING and bits & LOGIN:
        on = login(t, i, span)
    if span.kind == NOTHING and bits >> 12 & 255:
        on = keyed(t, i, span)
    else:
        return on
    if span.kind != NOTHING:
        finer(t, span)
    return on


cdef void finer(const Text *t, Span *span) noexcept nogil:
    """The name of what has a form of its own, and all of it, where a name gave it away."""
    cdef uint64_t bits = 0
    cdef Span inner
    cdef Py_ssize_t i = span.start, on
    while True:
        i = lr_next(t.p, i, t.n, ANCHORS, &bits)
        if i >= span.end:
            return
        on = i + 1
        if bits >> VENDORS_FROM or bits & JWT:
            on = formed(t, i, bits, &inner)
            if inner.kind != NOTHING and inner.start <= span.start and inner.end >= span.end:
                span[0] = inner
                return
        i = on


cdef void scan(const Text *t, int kinds, Found *found) noexcept nogil:
    cdef Py_ssize_t i = 0, on, last = -1
    cdef uint64_t bits = 0
    cdef bint secrets = kinds >> SECRET & 1
    cdef Span span, second
    if secrets and t.context_n:
        named_by_context(t, &span)
        if span.kind != NOTHING:
            finer(t, &span)
            add(found, &span)
            return
    while not found.failed:
        i = lr_next(t.p, i, t.n, ANCHORS, &bits)
        if i >= t.n:
            return
        span.kind = NOTHING
        on = i + 1
        if secrets and bits >> 7:
            on = secret(t, i, bits, &span)
        if span.kind == NOTHING and bits & (AT | ENCODED_AT | WIDE):
            if bits & AT:
                on = email(t, i, 1, &span)
            elif bits & ENCODED_AT or t.p[i + 2] == 0xA0:
                on = email(t, i, 3, &span)
        if span.kind == NOTHING and bits & (COLON | COLONS):
            on = ipv6(t, i, &span)
        if span.kind == NOTHING and bits & (NUMBER | WIDE) and not (bits & WIDE and t.p[i + 2] == 0xA0):
            on = number(t, i, last, &span)
        if span.kind == NOTHING and bits & ACCOUNT:
            on = max(i + 1, iban(t, i, &span))
        if span.kind != NOTHING:
            add(found, &span)
            last = span.end
            if span.kind == SECRET and span.name >= VENDORS_BEHIND:
                span.name -= VENDORS_BEHIND
                if paired(t, &span, &second):
                    second.name += VENDORS_BEHIND
                    add(found, &second)
                    last = on = second.end
        i = on if on > i else i + 1


cdef tuple told(const Span *span):
    return span.start, span.end, KINDS[span.kind], BY_KIND[span.kind][span.name]


cdef class Scanner:
    """Finds personal data and secrets in text.

    kinds: which of KINDS are reported; ValueError for any other. private_addresses, reserved_domains: also report what
    reaches nobody (10.0.0.1, ::1; joe@example.com), which is no personal data.
    """

    cdef int kinds, switches

    def __init__(self, kinds, *, bint private_addresses=False, bint reserved_domains=False):
        for kind in kinds:
            if kind not in KINDS:
                raise ValueError(f"{kind!r} is none of {', '.join(KINDS)}")
            self.kinds |= 1 << KINDS.index(kind)
        self.switches = (PRIVATE_ADDRESSES if private_addresses else 0) | (RESERVED_DOMAINS if reserved_domains else 0)

    def __repr__(self):
        return f"<Scanner {', '.join(kind for k, kind in enumerate(KINDS) if self.kinds >> k & 1)}>"

    def find(self, text, context=b""):
        """What is in `text` (UTF-8; other bytes are never part of a match): (start, end, kind, name), in order, none
        over another, in byte offsets. context: what stood before the text, such as the key of a JSON member.

        Both are bytes or another buffer of bytes; TypeError for anything else.
        """
        cdef Found found
        cdef Text t
        cdef Py_buffer text_view, context_view
        cdef Py_ssize_t k
        memset(&found, 0, sizeof(found))
        PyObject_GetBuffer(text, &text_view, PyBUF_SIMPLE)
        try:
            PyObject_GetBuffer(context, &context_view, PyBUF_SIMPLE)
        except:
            PyBuffer_Release(&text_view)
            raise
        t.p, t.n = <uint8_t *>text_view.buf, text_view.len
        t.context, t.context_n = <uint8_t *>context_view.buf, context_view.len
        t.switches = self.switches
        try:
            with nogil:
                scan(&t, self.kinds, &found)
            if found.failed:
                raise MemoryError
            return [told(&found.spans[k]) for k in range(found.count) if self.kinds >> found.spans[k].kind & 1]
        finally:
            free(found.spans)
            PyBuffer_Release(&context_view)
            PyBuffer_Release(&text_view)
