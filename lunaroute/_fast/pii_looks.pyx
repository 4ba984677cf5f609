"""What a value looks like: a secret, a word, something that stands for a secret. Imports nothing of ours but pii_text
and pii_names.
"""

from libc.stdint cimport uint8_t

from lunaroute._fast.pii_names cimport PASS, PASSPHRASE, PASSWORD, TOKEN, What
from lunaroute._fast.pii_text cimport (
    BLANK, DASH, DIGIT, DOT, HEX, LINE, LOWER, PLUS, UNDER, UPPER, Text, at, has, lower, run, starts,
)

# Parts of what people write where a secret would be.
FILLERS = (
    b"example", b"your_", b"your-", b"yourp", b"yourt", b"yourk", b"your.", b"youra", b"xxxx", b"placeholder",
    b"changeme", b"change_me", b"change-me", b"insert", b"dummy", b"redacted", b"replace", b"_here", b"-here", b"****",
    b"...", b"todo", b"${", b"{{", b"&lt;", b"<%", b"process.env", b"os.environ", b"getenv", b"://",
    b"\xe2\x80\xa6", b"\xe2\x80\xa2",
)
# Short values that begin so name an algorithm.
ALGORITHMS = (
    b"sha1", b"sha2", b"sha3", b"sha5", b"sha-", b"md5", b"base64", b"utf", b"oauth", b"pbkdf", b"aes", b"rsa", b"hmac",
    b"ed25519", b"ecdsa", b"bcrypt", b"hs256", b"rs256",
)

cdef enum:
    ROOM = 48

cdef struct Words:
    const char *text[ROOM]
    int size[ROOM]
    int count

cdef Words FILLER_WORDS, ALGORITHM_WORDS


cdef fill(Words *words, tuple rows):
    """The bytes stay: they are constants of this module."""
    if len(rows) > ROOM:
        raise ValueError("more words than there is room for")
    for word in rows:
        words.text[words.count], words.size[words.count] = word, len(word)
        words.count += 1


fill(&FILLER_WORDS, FILLERS)
fill(&ALGORITHM_WORDS, ALGORITHMS)

ctypedef struct Look:
    Py_ssize_t size, digits, lowers, uppers, symbols, blanks, changes, hexes
    int distinct
    bint wordy                  # made of words and small numbers


cdef void look(const uint8_t *p, Py_ssize_t n, Look *look_) noexcept nogil:
    """Count what there is."""
    cdef uint8_t seen[256]
    cdef Py_ssize_t k, number = 0, turns = 0
    cdef int kind, last = 0
    for k in range(256):
        seen[k] = 0
    look_.size = n
    look_.digits = look_.lowers = look_.uppers = look_.symbols = look_.blanks = look_.changes = look_.hexes = 0
    look_.distinct = 0
    look_.wordy = True
    for k in range(n):
        if not seen[p[k]]:
            seen[p[k]] = 1
            look_.distinct += 1
        kind = 0
        look_.hexes += has(p[k], HEX)
        if has(p[k], DIGIT):
            look_.digits += 1
            kind = 1
        elif has(p[k], LOWER):
            look_.lowers += 1
            kind = 2
        elif has(p[k], UPPER):
            look_.uppers += 1
            kind = 3
        elif has(p[k], BLANK | LINE):
            look_.blanks += 1
        elif not has(p[k], UNDER | DASH | DOT) and p[k] not in b"/:,":
            look_.symbols += 1
        if kind and last and kind != last:
            look_.changes += 1
        # a word: letters of one case, or one capital before them; a number: up to four digits
        if kind == 1:
            number = number + 1 if last == 1 else 1
            if number > 4:
                look_.wordy = False
        if kind and last and kind != last and not (last == 3 and kind == 2):
            turns += 1
        last = kind
    if turns * 4 > n:
        look_.wordy = False


cdef bint enclosed(const uint8_t *p, Py_ssize_t n, uint8_t first, uint8_t last) noexcept nogil:
    return n >= 2 and p[0] == first and p[n - 1] == last


cdef bint filler(const uint8_t *p, Py_ssize_t n) noexcept nogil:
    """Whether something was written there that only stands for a secret."""
    cdef Py_ssize_t k
    cdef int w
    cdef Text t
    t.p, t.n = p, n
    if (enclosed(p, n, c"<", c">") or enclosed(p, n, c"{", c"}") or enclosed(p, n, c"[", c"]")
            or enclosed(p, n, c"%", c"%")):
        return True
    # $NAME, %s, $(command), %(name)s
    if p[0] == c"$" and has(at(&t, 1), UPPER) and run(&t, 1, UPPER | UNDER | DIGIT) == n or p[0] == c"%" and n == 2:
        return True
    if n > 3 and (p[0] == c"$" or p[0] == c"%") and p[1] == c"(" and (p[n - 1] == c")" or p[n - 2] == c")"):
        return True
    for w in range(ALGORITHM_WORDS.count):
        if n <= 20 and starts(&t, 0, ALGORITHM_WORDS.text[w], ALGORITHM_WORDS.size[w]):
            return True
    for k in range(n):
        for w in range(FILLER_WORDS.count):
            if lower(p[k]) != <uint8_t>FILLER_WORDS.text[w][0]:
                continue
            if starts(&t, k, FILLER_WORDS.text[w], FILLER_WORDS.size[w]):
                return True
    return False


cdef bint lettered(const uint8_t *p, Py_ssize_t n) noexcept nogil:
    """Whether there are letters and digits, and no blanks."""
    cdef Look x
    look(p, n, &x)
    return x.digits and x.lowers + x.uppers and not x.blanks


cdef bint random_looking(const Look *x) noexcept nogil:
    """Drawn from an alphabet, not made of words: digits and letters turn into each other all the time."""
    cdef Py_ssize_t letters = x.lowers + x.uppers, all_ = letters + x.digits
    if x.hexes == all_ and all_ >= 32 and x.size - all_ <= 4 and x.digits >= 6 and letters >= 4 and x.distinct >= 8:
        return True             # the output of a digest, a UUID: few turns may be chance there
    if x.blanks or all_ < 12 or x.distinct < 8 or letters < 2:
        return False
    if x.digits < 2 and not (x.lowers > 4 and x.uppers > 4 and all_ >= 24):
        return False
    return x.changes * 100 >= (all_ - 1) * (40 if x.digits < 2 else 30 if x.uppers and x.lowers else 22)


cdef bint password(const uint8_t *p, Look *x, What what, bint quoted) noexcept nogil:
    """Whether a value under the name of a password is one, and no name, label or expression."""
    cdef int kinds = (x.digits > 0) + (x.lowers > 0) + (x.uppers > 0) + (x.symbols > 0)
    if x.lowers + x.uppers == 0:
        # 1234, 24-12-1980
        return quoted and x.digits >= (4 if what == PASSWORD else 6) and not x.symbols
    if x.size < 6:
        return False            # a variable: p1, pw2
    if x.digits:
        if what == PASS and x.wordy and not x.symbols:
            return False
        return kinds >= 3 or what == PASSWORD or x.digits > 1
    # no digits: correct-Horse!, but no [expression], no question?
    if not x.symbols or p[0] in b"<{[($:;,=" or p[x.size - 1] in b"])}>:;?":
        return False
    return kinds >= 3 or (quoted and what == PASSWORD)


cdef bint worth(const uint8_t *p, Py_ssize_t n, What what, bint quoted) noexcept nogil:
    """Whether a value under such a name is a secret."""
    cdef Look x
    cdef int kinds
    if not 4 <= n <= VALUE_MAX or filler(p, n):
        return False
    look(p, n, &x)
    if x.distinct == 1:
        return False
    if what == PASSPHRASE:
        if x.blanks:
            return quoted and x.blanks >= 3 and n <= 128 and p[n - 1] not in b".:?!" and not has(p[0], UPPER)
        what = PASSWORD
    if x.blanks:
        return False
    if what == PASSWORD or what == PASS:
        return password(p, &x, what, quoted)
    kinds = (x.digits > 0) + (x.lowers > 0) + (x.uppers > 0) + (x.symbols > 0)
    if n >= 16:
        if random_looking(&x):
            return True
        return not (x.wordy and n < 40) and kinds == 4 and x.distinct >= 10
    if x.wordy:
        return False
    return n >= 8 and x.digits > 0 and kinds >= 3 and x.changes * 100 >= (n - 1) * 35 and what != TOKEN


cdef bint basic(const uint8_t *p, Py_ssize_t n) noexcept nogil:
    """Whether this is user:password in base64 (RFC 7617): it decodes to printable characters with a colon."""
    cdef Py_ssize_t k
    cdef int bits = 0, have = 0, v
    cdef uint8_t c
    cdef bint colon = False
    if n < 8:
        return False
    for k in range(n):
        c = p[k]
        v = c - 65 if has(c, UPPER) else c - 71 if has(c, LOWER) else c + 4 if has(c, DIGIT) else -1
        if has(c, PLUS):
            v = 62 if c == c"+" else 63
        if v < 0:
            return c == c"=" and colon and n - k <= 2
        bits = (bits << 6 | v) & 0xFFFF
        have += 6
        if have >= 8:
            have -= 8
            c = bits >> have & 0xFF
            if c < 32 or c == 127:
                return False
            colon |= c == c":"
    return colon
