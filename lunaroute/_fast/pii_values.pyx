"""Values that only the name before them gives away: `password = "..."`, `Authorization: Bearer ...`, `//user:...@host`.
Imports nothing of ours but pii_text.

Two questions: is this the name of a secret (its last word decides: `secret_key`, not `key_id`), and does the value look
like one rather than like code (`password = get_password()`, `token: Token`, `"secret": "Your secret"`)?
"""

from libc.stdint cimport uint8_t
from libc.string cimport memcmp

from lunaroute._fast.pii_text cimport (
    ALNUM, ALPHA, BLANK, DASH, DIGIT, DOT, HIGH, LINE, LOWER, NOTHING, SECRET, Span, Text, UNDER, UPPER, WORD, at, escaped,
    has, lower, run, run_at_most, run_back, starts,
)

cdef enum:
    VALUE_MAX = 512

cdef enum What:                 # what kind of value a name is of; the names that are reported are in NAMES
    NO_SECRET = 0
    PASSWORD
    PASS                        # a shorter word for it, which means other things too
    SECRET_VALUE
    TOKEN
    KEY
    AUTHORIZATION
    PASSPHRASE

NAMES = ["", "password", "password", "secret", "token", "secret_key", "authorization", "password", "url_password"]

# What may stand before `key`: without one of them it is a map's, a table's or a keyboard's.
KEYS = (
    b"api", b"secret", b"private", b"access", b"encryption", b"encrypt", b"auth", b"master", b"signing", b"service", b"account",
    b"shared", b"client", b"subscription", b"admin", b"application", b"deploy", b"jwt", b"hmac", b"aes", b"storage", b"webhook",
    b"license", b"decryption", b"server", b"consumer", b"ssh", b"rapidapi", b"integration", b"ingest", b"function", b"functions",
    b"signature", b"security", b"app", b"root", b"write", b"maps", b"cipher", b"symmetric",
)
# ... and what makes a token none: where a list goes on, what a model reads
NO_TOKENS = (b"page", b"next", b"continuation", b"sync", b"cursor", b"pagination", b"eos", b"bos", b"pad", b"unk", b"mask", b"sep", b"cls",
             b"csrf", b"xsrf", b"cancellation", b"cancel", b"public", b"start", b"stop")
# Parts of what people write where a secret would be.
FILLERS = (b"example", b"your", b"xxxx", b"placeholder", b"changeme", b"change_me", b"change-me", b"insert", b"dummy", b"redacted", b"replace",
           b"_here", b"-here", b"****", b"....", b"todo", b"${", b"{{", b"<%", b"$(", b"%(", b"process.env", b"os.environ", b"getenv", b"sha256", b"sha512",
           b"sha1", b"sha-", b"md5", b"base64", b"utf8", b"utf-8", b"oauth2", b"pbkdf2", b"aes-", b"rsa-", b"://", b"\xe2\x80\xa6", b"\xe2\x80\xa2")

cdef enum:
    LIST_MAX = 48

cdef struct List:
    const char *text[LIST_MAX]
    int size[LIST_MAX]
    int count

cdef List KEY_LIST, NO_TOKEN_LIST, FILLER_LIST


cdef fill(List *list_, tuple words):
    if len(words) > LIST_MAX:
        raise ValueError("more words than there is room for")
    for word in words:
        list_.text[list_.count], list_.size[list_.count] = word, len(word)
        list_.count += 1


fill(&KEY_LIST, KEYS)
fill(&NO_TOKEN_LIST, NO_TOKENS)
fill(&FILLER_LIST, FILLERS)


# --- names ----------------------------------------------------------------------------------------------------------
cdef bint preceded(const Text *t, Py_ssize_t i, const List *words) noexcept nogil:
    """Whether one of these words ends before i, with or without one of _ - . or a blank between."""
    cdef int k
    cdef Py_ssize_t start
    if i > 0 and (has(t.p[i - 1], UNDER | DASH | DOT) or t.p[i - 1] == c" "):
        i -= 1
    for k in range(words.count):
        start = i - words.size[k]
        if starts(t, start, words.text[k], words.size[k]):
            # `app` of `map`, no: a word begins there
            if start == 0 or not has(t.p[start - 1], ALPHA) or (has(t.p[start - 1], LOWER) and has(t.p[start], UPPER)) or words.size[k] > 3:
                return True
    return False


cdef What named(const Text *t, Py_ssize_t i, Py_ssize_t *end) noexcept nogil:
    """Of what the name is whose last word begins at i, and where it ends."""
    cdef What what = NO_SECRET
    cdef Py_ssize_t k = i
    cdef uint8_t before = at(t, i - 1)
    # the beginning of a word: not `encompass`, not `mistoken`; but `dbpassword` is one
    cdef bint first = not has(before, ALPHA) or (has(before, LOWER) and has(t.p[i], UPPER)) or escaped(t, i)
    if starts(t, i, b"password", 8) or starts(t, i, b"passwort", 8) or starts(t, i, b"passcode", 8):
        what, k = PASSWORD, i + 8
    elif starts(t, i, b"passphrase", 10):
        what, k = PASSPHRASE, i + 10
    elif starts(t, i, b"passwd", 6):
        what, k = PASSWORD, i + 6
    elif starts(t, i, b"pass", 4) and first:
        what, k = PASS, i + 4
    elif starts(t, i, b"pwd", 3):
        what, k = PASS, i + 3
    elif starts(t, i, b"secret", 6):
        what, k = SECRET_VALUE, i + 6
    elif starts(t, i, b"token", 5):
        what, k = TOKEN, i + 5
        if preceded(t, i, &NO_TOKEN_LIST):
            return NO_SECRET
    elif starts(t, i, b"key", 3):
        what, k = KEY, i + 3
        if not preceded(t, i, &KEY_LIST):
            return NO_SECRET
    elif starts(t, i, b"authorization", 13):
        what, k = AUTHORIZATION, i + 13
    elif starts(t, i, b"auth", 4) and first:
        what, k = TOKEN, i + 4
    elif starts(t, i, b"credential", 10):
        what, k = SECRET_VALUE, i + 10
        k += lower(at(t, k)) == c"s"
    elif starts(t, i, b"creds", 5):
        what, k = SECRET_VALUE, i + 5
    elif starts(t, i, b"sig", 3) and first:
        what, k = KEY, i + 3
    else:
        return NO_SECRET
    # password2, secret_1, apiKeyV2 are names of their kind, password_field and tokens are not
    if has(at(t, k), UNDER | DASH) and has(at(t, k + 1), DIGIT):
        k += 1
    k = run_at_most(t, k, DIGIT, 4)
    if (lower(at(t, k)) == c"c" or at(t, k) == c"_") and starts(t, k + (at(t, k) == c"_"), b"confirm", 7):
        k = run(t, k, WORD)
    end[0] = k
    return NO_SECRET if has(at(t, k), WORD | DASH | HIGH) and not (at(t, k) == c"-" and at(t, k + 1) == c"-") else what


# --- values ---------------------------------------------------------------------------------------------------------
ctypedef struct Look:
    Py_ssize_t size, digits, lowers, uppers, symbols, blanks, changes, letters_in_row
    int distinct
    bint wordy                  # made of words and small numbers


cdef void look(const uint8_t *p, Py_ssize_t n, Look *look_) noexcept nogil:
    cdef uint8_t seen[256]
    cdef Py_ssize_t k, word = 0, number = 0, turns = 0
    cdef int kind, last = 0
    for k in range(256):
        seen[k] = 0
    look_.size = n
    look_.digits = look_.lowers = look_.uppers = look_.symbols = look_.blanks = look_.changes = 0
    look_.distinct = 0
    look_.wordy = True
    for k in range(n):
        if not seen[p[k]]:
            seen[p[k]] = 1
            look_.distinct += 1
        kind = 0
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
        if kind:
            last = kind
        else:
            last = 0
    if turns * 4 > n:
        look_.wordy = False


cdef bint filler(const uint8_t *p, Py_ssize_t n) noexcept nogil:
    """Whether something was written there that only stands for a secret."""
    cdef Py_ssize_t k
    cdef int w
    cdef Text t
    t.p, t.n = p, n
    if n >= 2 and p[0] == c"<" and p[n - 1] == c">" or p[0] == c"$" and (has(at(&t, 1), UPPER) and run(&t, 1, UPPER | UNDER | DIGIT) == n):
        return True
    if p[0] == c"{" and p[n - 1] == c"}" or p[0] == c"[" and p[n - 1] == c"]" or p[0] == c"%" and (n == 2 or p[n - 1] == c"%"):
        return True
    if p[0] == c"#" or p[0] == c"/" and memcmp(p, b"//", 2 if n > 1 else 1) == 0:
        return True
    for k in range(n):
        for w in range(FILLER_LIST.count):
            if lower(p[k]) == <uint8_t>FILLER_LIST.text[w][0] and starts(&t, k, FILLER_LIST.text[w], FILLER_LIST.size[w]):
                return True
    return False


cdef bint random_looking(const Look *x) noexcept nogil:
    """Drawn from an alphabet, not made of words: digits and letters turn into each other all the time."""
    cdef Py_ssize_t letters = x.lowers + x.uppers, all_ = letters + x.digits
    if x.blanks or all_ < 12 or x.distinct < 8 or letters < 2:
        return False
    if x.digits < 2 and not (x.lowers > 4 and x.uppers > 4 and all_ >= 24):
        return False
    return x.changes * 100 >= (all_ - 1) * (27 if x.uppers and x.lowers else 22)


cdef bint worth(const uint8_t *p, Py_ssize_t n, What what, bint quoted) noexcept nogil:
    """Whether a value under such a name is a secret."""
    cdef Look x
    cdef Py_ssize_t k
    cdef int kinds
    cdef bint hollow = True
    if not 4 <= n <= VALUE_MAX:
        return False
    for k in range(1, n):
        hollow &= p[k] == p[0]
    if hollow or filler(p, n):
        return False
    look(p, n, &x)
    kinds = (x.digits > 0) + (x.lowers > 0) + (x.uppers > 0) + (x.symbols > 0)
    if what == PASSPHRASE:
        if x.blanks:
            return quoted and x.blanks >= 3 and n <= 128 and p[n - 1] not in b".:?!" and not has(p[0], UPPER)
        what = PASSWORD
    if x.blanks:
        return False
    if what == PASSWORD or what == PASS:
        if x.lowers + x.uppers == 0:
            # 1234, 24-12-1980
            return quoted and x.digits >= (4 if what == PASSWORD else 6) and not x.symbols
        if x.digits:
            # a variable beside it, not a word: p1, pw2, x509
            return n >= 6 and (kinds >= 3 or what == PASSWORD or x.digits > 1) and not (what == PASS and x.wordy and not x.symbols)
        return x.symbols > 0 and n >= 6 and (kinds >= 3 or (quoted and what == PASSWORD and x.symbols * 3 >= 1)) and p[0] not in b"<{[($:;,=" and p[n - 1] not in b"])}>:;?"
    if x.wordy and n < 40 and not (n >= 16 and random_looking(&x)):
        return False
    if n >= 16:
        return random_looking(&x) or (kinds == 4 and x.distinct >= 10)
    return n >= 8 and x.digits > 0 and kinds >= 3 and x.changes * 100 >= (n - 1) * 35 and what != TOKEN


cdef Py_ssize_t scheme(const Text *t, Py_ssize_t i, Py_ssize_t end) noexcept nogil:
    """Behind the scheme of an Authorization value (RFC 9110 11.4), i where there is none."""
    cdef Py_ssize_t k = run_at_most(t, i, ALPHA | DASH, 16)
    if not (starts(t, i, b"bearer", 6) or starts(t, i, b"basic", 5) or starts(t, i, b"token", 5) or starts(t, i, b"apikey", 6)
            or starts(t, i, b"api-key", 7) or starts(t, i, b"key", 3) or starts(t, i, b"bot", 3) or starts(t, i, b"negotiate", 9)
            or starts(t, i, b"genie", 5) or starts(t, i, b"sso", 3)):
        return i
    if k < end and has(t.p[k], BLANK):
        return run(t, k, BLANK)
    return i


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
        v = c - 65 if has(c, UPPER) else c - 71 if has(c, LOWER) else c + 4 if has(c, DIGIT) else 62 if c == c"+" else 63 if c == c"/" else -1
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


cdef Py_ssize_t quote_at(const Text *t, Py_ssize_t i) noexcept nogil:
    """The size of the quote at i, with the backslashes before it (JSON in JSON); 0 where there is none."""
    cdef Py_ssize_t k = i
    while k < t.n and k - i < 7 and t.p[k] == c"\\":
        k += 1
    return k + 1 - i if at(t, k) in b"\"'`" and k < t.n else 0


cdef bint take(const Text *t, Py_ssize_t start, Py_ssize_t end, What what, bint quoted, Span *found) noexcept nogil:
    """The value from start to end, where it is a secret."""
    cdef Py_ssize_t token
    cdef Look x
    if what == AUTHORIZATION:
        token = scheme(t, start, end)
        if token == start:
            what = TOKEN
        elif starts(t, start, b"basic", 5):
            if not basic(t.p + token, end - token) or filler(t.p + token, end - token):
                return False
            found.kind, found.name, found.start, found.end = SECRET, what, token, end
            return True
        # what stands there is a token, of whatever it is made
        if end - token >= 8 and end - token <= VALUE_MAX and not filler(t.p + token, end - token):
            look(t.p + token, end - token, &x)
            if x.digits and x.lowers + x.uppers and not x.blanks and t.p[token] not in b"{($+<":
                found.kind, found.name, found.start, found.end = SECRET, what, token, end
                return True
        start = token
    if not worth(t.p + start, end - start, what, quoted):
        return False
    found.kind, found.name, found.start, found.end = SECRET, what, start, end
    return True


cdef Py_ssize_t keyed(const Text *t, Py_ssize_t i, Span *found) noexcept nogil:
    """The secret behind the name whose last word begins at i, in `found`; where to go on."""
    cdef Py_ssize_t k, size, start, end, name = i
    cdef bint option = False, tight, pair = False, assigned
    cdef uint8_t c, q
    cdef What what = named(t, i, &k)
    found.kind = NOTHING
    if what == NO_SECRET:
        return i + 1
    # --password VALUE
    name = run_back(t, i, WORD | DASH, 40)
    option = t.p[name] == c"-"
    end = k
    size = quote_at(t, k)
    if size:
        k += size
        pair = True
    while at(t, k) in b")]" and k < t.n and k - end < 4:
        k += 1
    start = k
    k = run(t, k, BLANK)
    c = at(t, k)
    assigned = True
    if c == c":" or c == c"=":
        k += 1
        while k - start < 12 and at(t, k) in b":=>":
            k += 1
    elif c == c">" and what != AUTHORIZATION:
        k += 1                  # <password>value</password>
    elif pair and c == c",":
        k += 1
    elif pair and starts(t, k, b"value=", 6):
        k += 6                  # <add key="password" value="...">
    elif option and k > start:
        assigned = False
    elif starts(t, k, b"is ", 3) and k > start and (what == PASSWORD or what == PASSPHRASE):
        k += 3
        assigned = False
    else:
        return end
    tight = k == start + 1
    k = run(t, k, BLANK)
    if starts(t, k, b"value=", 6):
        k += 6
    # password: str = "..."
    if has(at(t, k), ALPHA) and assigned:
        start = run_at_most(t, k, WORD | DOT, 32)
        if at(t, run(t, start, BLANK)) == c"=" and at(t, run(t, start, BLANK) + 1) != c"=" and start > k and at(t, start) in b" \t=":
            if quote_at(t, run(t, run(t, start, BLANK) + 1, BLANK)):
                k = run(t, run(t, start, BLANK) + 1, BLANK)
    # b"...", f"...", @"..."
    if has(at(t, k), ALPHA) or at(t, k) == c"@" or at(t, k) == c"$":
        size = 2 if has(at(t, k + 1), ALPHA) and at(t, k + 2) in b"\"'" else 1
        if lower(at(t, k)) in b"brfu@$" and at(t, k + size) in b"\"'" and k + size < t.n:
            k += size
    size = quote_at(t, k)
    if size:
        q = t.p[k + size - 1]
        start = k + size
        end = start
        while end < t.n and end - start <= VALUE_MAX and not has(t.p[end], LINE):
            if t.p[end] == q:
                break
            if t.p[end] == c"\\":
                if size > 1 and at(t, end + size - 1) == q:
                    break
                end += 1
            end += 1
        if end >= t.n or t.p[end] not in b"\"'`\\" or end == start:
            return k + size
        if pair and c == c"," and not (what == KEY or what == TOKEN or what == SECRET_VALUE or what == AUTHORIZATION or what == PASSWORD):
            return start
        if take(t, start, end, what, True, found):
            return end
        return start
    if pair and c == c",":
        return k
    # bare: up to what ends a word of a shell, of YAML, of a query, of a tag
    start = end = k
    if what == AUTHORIZATION:
        end = scheme(t, start, t.n)
    while end < t.n and end - start <= VALUE_MAX and not has(t.p[end], BLANK | LINE) and t.p[end] not in b"\"'`<>,;&|\\":
        if t.p[end] in b"({[" and what != PASSWORD and what != PASS:
            return k
        end += 1
    if end == start or end - start > VALUE_MAX:
        return k
    while end > start and t.p[end - 1] in b".)]}:!?" and not (what == PASSWORD and t.p[end - 1] in b"!?"):
        end -= 1
    if not bare(t, start, end, what, tight or not assigned or option):
        return k
    if take(t, start, end, what, False, found):
        return end
    return k


cdef bint bare(const Text *t, Py_ssize_t start, Py_ssize_t end, What what, bint tight) noexcept nogil:
    """Whether a value without quotes is one, and no expression of some language."""
    cdef Py_ssize_t k, words = run(t, start, WORD | DOT)
    cdef uint8_t c = at(t, end)
    for k in range(start, end):
        if t.p[k] in b"(){}[]" and what != PASSWORD or t.p[k] == c"(" or t.p[k] == c"{":
            return False
    if has(t.p[start], DOT) or at(t, start) in b"*=>?" or (t.p[start] == c"-" and not has(at(t, start + 1), ALNUM)):
        return False
    if what == PASSWORD or what == PASS or what == PASSPHRASE:
        if words == end:
            # a name (of a variable, a field, a type) unless the line ends there
            for k in range(start, end):
                if t.p[k] == c".":
                    return False
            if c in b"),;(" and c != 0 or has(c, BLANK) and at(t, run(t, end, BLANK)) in b"=+-*/?:&|<>({[" and run(t, end, BLANK) < t.n:
                return False
            return not has(t.p[start], UNDER)
        return True
    return True


cdef Py_ssize_t bearer(const Text *t, Py_ssize_t i, Span *found) noexcept nogil:
    """The token behind the word Bearer at i (RFC 6750 2.1), in `found`; where to go on."""
    cdef Py_ssize_t start, end
    found.kind = NOTHING
    if not starts(t, i, b"bearer ", 7) or (i > 0 and has(t.p[i - 1], WORD) and not escaped(t, i)):
        return i + 1
    start = run(t, i + 6, BLANK)
    end = start
    while end < t.n and (has(t.p[end], WORD | DASH | DOT) or t.p[end] in b"~+/=") and end - start < 4096:
        end += 1
    while end > start and t.p[end - 1] == c".":
        end -= 1
    if end - start >= 16 and end - start <= VALUE_MAX and worth(t.p + start, end - start, TOKEN, True):
        found.kind, found.name, found.start, found.end = SECRET, AUTHORIZATION, start, end
        return end
    return start


cdef Py_ssize_t authority(const Text *t, Py_ssize_t i, Span *found) noexcept nogil:
    """The password in the authority of the URL whose `://` is at i (RFC 3986 3.2.1), in `found`; where to go on."""
    cdef Py_ssize_t k = i + 3, start = 0, end = 0, n, stop = i + 259
    found.kind = NOTHING
    while k < t.n and k < stop:
        if has(t.p[k], BLANK | LINE) or t.p[k] in b"/\"'`<>\\?#()," and not (start and t.p[k] in b"#?()," and not has(at(t, k + 1), LINE | BLANK)):
            break
        if t.p[k] == c":" and not start:
            start = k + 1
        elif t.p[k] == c"@":
            end = k
        k += 1
    if not start or end <= start:
        return i + 3
    n = end - start
    # ${...}, {password}, %s, <password>, ****; password, pass; the user's name again (the defaults of containers)
    if t.p[start] in b"${%<*[" or t.p[end - 1] in b"}>" or n < 3 or n > 128 or filler(t.p + start, n):
        return end
    if starts(t, start, b"pass", 4) or starts(t, start, b"pwd", 3) or starts(t, start, b"secret", 6) and n == 6:
        if n <= 8:
            return end
    if start - 1 - (i + 3) == n and memcmp(t.p + start, t.p + i + 3, n) == 0:
        return end
    found.kind, found.name, found.start, found.end = SECRET, 8, start, end
    return end


cdef void named_by_context(const Text *t, Span *found) noexcept nogil:
    """The whole text, where the context's last name is that of a secret and the text looks like one."""
    cdef Text c
    cdef Py_ssize_t k, end = 0, start, stop
    cdef What what = NO_SECRET, this
    found.kind = NOTHING
    if not t.context_n or t.n > VALUE_MAX:
        return
    c.p, c.n = t.context, t.context_n
    while c.n and (has(c.p[c.n - 1], BLANK) or c.p[c.n - 1] in b"\"':=\\>[({"):
        c.n -= 1
    for k in range(c.n - 16 if c.n > 16 else 0, c.n):
        this = named(&c, k, &end)
        if this != NO_SECRET and end == c.n:
            what = this
            break
    if what == NO_SECRET:
        return
    start, stop = 0, t.n
    while start < stop and has(t.p[start], BLANK | LINE):
        start += 1
    while stop > start and has(t.p[stop - 1], BLANK | LINE):
        stop -= 1
    for k in range(start, stop):
        if has(t.p[k], LINE):
            return
    if stop > start:
        take(t, start, stop, what, True, found)
