"""Values that only the name before them gives away: `password = "..."`, `Authorization: Bearer ...`, `//user:...@host`.
Imports nothing of ours but pii_text, pii_names and pii_looks.

Names and values are told by those two; here is where the value of a name stands and where it ends, in the languages
that people configure, program and write in.
"""

from libc.stdint cimport uint8_t
from libc.string cimport memcmp

from lunaroute._fast.pii_looks cimport VALUE_MAX, basic, filler, lettered, worth
from lunaroute._fast.pii_names cimport (
    AUTHORIZATION, NO_SECRET, PASS, PASSPHRASE, PASSWORD, TOKEN, URL_PASSWORD, What, named,
)
from lunaroute._fast.pii_text cimport (
    ALPHA, BLANK, DASH, DOT, LINE, NOTHING, SECRET, WORD, Span, Text, at, back_to, escaped, has, lower, run,
    run_at_most, run_back, starts,
)


cdef Py_ssize_t scheme(const Text *t, Py_ssize_t i, Py_ssize_t end) noexcept nogil:
    """Behind the scheme of an Authorization value (RFC 9110 11.4), i where there is none."""
    cdef Py_ssize_t k = run_at_most(t, i, ALPHA | DASH, 16)
    if k < end and has(t.p[k], BLANK) and (
            starts(t, i, b"bearer ", 7) or starts(t, i, b"basic ", 6) or starts(t, i, b"token ", 6)
            or starts(t, i, b"bot ", 4) or starts(t, i, b"apikey ", 7) or starts(t, i, b"api-key ", 8)
            or starts(t, i, b"key ", 4) or starts(t, i, b"negotiate ", 10)
            or starts(t, i, b"geniekey ", 9) or starts(t, i, b"sso-key ", 8)):
        return run(t, k, BLANK)
    return i


cdef Py_ssize_t quote_at(const Text *t, Py_ssize_t i) noexcept nogil:
    """The size of the quote at i, with the backslashes before it (JSON in JSON); 0 where there is none."""
    cdef Py_ssize_t k = i
    while k < t.n and k - i < 7 and t.p[k] == c"\\":
        k += 1
    return k + 1 - i if at(t, k) in b"\"'`" and k < t.n else 0


cdef bint take(const Text *t, Py_ssize_t start, Py_ssize_t end, What what, bint quoted, Span *found) noexcept nogil:
    """The value from start to end, where it is a secret."""
    cdef Py_ssize_t token
    cdef bint sure = False
    if what == AUTHORIZATION:
        if starts(t, start, b"aws4-", 5):
            return False        # a signature of one request, with the key's name
        token = scheme(t, start, end)
        if token == start:
            what = TOKEN
        elif starts(t, start, b"basic", 5):
            if not basic(t.p + token, end - token) or filler(t.p + token, end - token):
                return False
            sure = True
        else:
            # what stands there is a token, of whatever it is made
            sure = (8 <= end - token <= VALUE_MAX and not filler(t.p + token, end - token)
                    and lettered(t.p + token, end - token) and t.p[token] not in b"{($+<")
        start = token
    if not sure and not worth(t.p + start, end - start, what, quoted):
        return False
    found.kind, found.name, found.start, found.end = SECRET, what, start, end
    return True


ctypedef struct Place:          # where the value of a name stands
    Py_ssize_t at
    bint tight                  # no blank before it, or a word of a command: it ends at a blank
    bint listed                 # behind a comma: ("name", "value")


cdef bint place(const Text *t, Py_ssize_t name, Py_ssize_t end, What what, Place *value) noexcept nogil:
    """Where the value stands whose name goes from `name` to `end`; False where none follows."""
    cdef Py_ssize_t k = end, behind, size = quote_at(t, k)
    cdef bint quoted = size > 0
    cdef uint8_t c
    k += size
    while k < t.n and k - end < 4 and t.p[k] in b")]":
        k += 1
    behind = k
    k = run(t, k, BLANK)
    c = at(t, k)
    value.listed = value.tight = False
    if c == c":" or c == c"=":
        k += 1
        while k - behind < 12 and k < t.n and t.p[k] in b":=>":
            k += 1
        value.tight = k == behind + 1
    elif c == c">" and not quoted and (at(t, name - 1) == c"<" or at(t, name - 1) == c":"):
        k += 1                  # <password>value</password>
    elif c == c"," and quoted:
        k += 1
        value.listed = True
    elif starts(t, k, b"value=", 6) and quoted:
        k += 6                  # <add key="password" value="...">
    elif t.p[name] == c"-" and k > behind:
        value.tight = True      # --password VALUE
    elif k > behind and logs_in(t, name):
        value.tight = True      # login joe password VALUE
    elif starts(t, k, b"is ", 3) and k > behind and (what == PASSWORD or what == PASSPHRASE):
        k += 3
        value.tight = True
    else:
        return False
    value.at = run(t, k, BLANK)
    if t.p[name] == c"-":
        value.tight = True
    if c == c":" or c == c"=":
        value.at = typed(t, value.at)
    return True


cdef bint logs_in(const Text *t, Py_ssize_t i) noexcept nogil:
    """Whether `machine HOST login NAME` stands before i, on one line or more, as in a .netrc."""
    cdef Py_ssize_t k, name = run_back(t, i, BLANK | LINE, 16)
    k = back_to(t, name, BLANK | LINE, 64)
    k = run_back(t, k, BLANK | LINE, 16)
    if not starts(t, k - 5, b"login", 5):
        return False
    k = run_back(t, k - 5, BLANK | LINE, 16)
    k = back_to(t, k, BLANK | LINE, 128)
    k = run_back(t, k, BLANK | LINE, 16)
    return starts(t, k - 7, b"machine", 7)


cdef Py_ssize_t typed(const Text *t, Py_ssize_t i) noexcept nogil:
    """Behind the type in `password: str = "..."`; i where there is none."""
    cdef Py_ssize_t k = run_at_most(t, i, WORD | DOT, 32), blank = run(t, k, BLANK)
    if k == i or not has(t.p[i], ALPHA) or at(t, blank) != c"=" or at(t, blank + 1) == c"=":
        return i
    k = run(t, blank + 1, BLANK)
    return k if quote_at(t, k) else i


cdef Py_ssize_t prefixed(const Text *t, Py_ssize_t i) noexcept nogil:
    """Behind the letters before a quote: b"...", rb'...', f"...", @"..."; i where there are none."""
    cdef Py_ssize_t k = run_at_most(t, i, ALPHA, 2)
    if k == i and i < t.n and t.p[i] in b"@$":
        k += 1
    return k if k > i and k < t.n and t.p[k] in b"\"'" and lower(t.p[i]) in b"brfu@$" else i


cdef Py_ssize_t closing(const Text *t, Py_ssize_t i, Py_ssize_t quote) noexcept nogil:
    """Where the value ends whose quote, of this size, ends before i; 0 where its line ends before it does."""
    cdef uint8_t q = t.p[i - 1]
    cdef Py_ssize_t end = i
    while end < t.n and end - i <= VALUE_MAX and not has(t.p[end], LINE):
        if t.p[end] == q:
            return end
        if t.p[end] == c"\\":
            if quote > 1 and at(t, end + quote - 1) == q:
                return end
            end += 1
        end += 1
    return 0


cdef Py_ssize_t word_end(const Text *t, Py_ssize_t i, What what) noexcept nogil:
    """Where a value without quotes ends: what ends a word of a shell, of YAML, of a query, of a tag; 0 where it is an
    expression or too long."""
    cdef Py_ssize_t end = i
    if what == AUTHORIZATION:
        end = scheme(t, i, t.n)
    while end < t.n and not has(t.p[end], BLANK | LINE) and t.p[end] not in b"\"'`<>,;|\\":
        if t.p[end] == c"&" and (has(at(t, end + 1), BLANK | LINE) or (at(t, end + 1) == c"&" and what != PASSWORD)
                                 or at(t, run_at_most(t, end + 1, WORD | DASH | DOT, 40)) == c"="):
            break               # the next field of a form, the next command
        if end - i > VALUE_MAX or (t.p[end] in b"({[" and what != PASSWORD and what != PASS):
            return 0
        end += 1
    # the end of a sentence, of what it stands in; passwords may end in anything
    while end > i and t.p[end - 1] in b".:)]}!?":
        if what == PASSWORD and t.p[end - 1] not in b".:" and (t.p[end - 1] in b"!?" or run(t, i, WORD) < end - 1):
            break
        end -= 1
    return end if end > i else 0


cdef Py_ssize_t keyed(const Text *t, Py_ssize_t i, Span *found) noexcept nogil:
    """The secret behind the name whose last word begins at i, in `found`; where to go on."""
    cdef Py_ssize_t end, start, size, name
    cdef Place value
    cdef What what = named(t, i, &end)
    found.kind = NOTHING
    if what == NO_SECRET:
        return i + 1
    name = run_back(t, i, WORD | DASH, 40)
    if not place(t, name, end, what, &value):
        return end
    start = prefixed(t, value.at)
    size = quote_at(t, start)
    if size:
        start += size
        end = closing(t, start, size)
        if not end or (value.listed and (what == PASS or what == PASSPHRASE)):
            return start
        return end if take(t, start, end, what, True, found) else start
    end = word_end(t, start, what)
    if value.listed or not end:
        return start
    # Server=db;Password=...; is no expression though a semicolon ends it
    if at(t, end) != c";" or at(t, name - 1) != c";":
        if not bare(t, start, end, what, value.tight):
            return start
    return end if take(t, start, end, what, False, found) else start


cdef bint bare(const Text *t, Py_ssize_t start, Py_ssize_t end, What what, bint tight) noexcept nogil:
    """Whether a value without quotes is one, and no expression of some language. tight: it is a word of a shell."""
    cdef Py_ssize_t k, words = run(t, start, WORD | DOT), next_ = run(t, end, BLANK)
    cdef uint8_t c = at(t, end)
    cdef bint password = what == PASSWORD or what == PASS or what == PASSPHRASE
    if words > start and words < t.n and t.p[words] in b"([{":
        # a call, an item: f(x), f(x, ...), f("..."), f(b"...")
        if words >= end or t.p[end - 1] in b")]([" or (c and (c in b")]," or c in b"\"'" and end - words <= 3)):
            return False
    if t.p[start] == c"{" or has(t.p[start], DOT) or (t.p[start] in b"*=>?-" and not tight):
        return False
    if not password:
        for k in range(start, end):
            if t.p[k] in b"(){}[]":
                return False
            if t.p[k] == c"." and words == end and c and c in b",)=":
                return False    # a.b, of a module or an object
        return True
    if words < end:
        return True
    if not tight and starts(t, start, b"pass", 4):
        return False
    # a name (of a variable, a field, a type) unless the line ends there
    for k in range(start, end):
        if t.p[k] == c".":
            return False
    if c and c in b"),;(" or not tight and next_ < t.n and has(c, BLANK) and t.p[next_] in b"=+-*/?:&|<>({[":
        return False
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


cdef Py_ssize_t login(const Text *t, Py_ssize_t i, Span *found) noexcept nogil:
    """The password in `curl -u user:password` or `--user user:password`, whose blank is within four bytes of i, in
    `found`; where to go on."""
    cdef Py_ssize_t k = i, start = 0, line
    found.kind = NOTHING
    while k < t.n and not has(t.p[k], BLANK):
        k += 1
    if not (starts(t, k - 2, b"-u", 2) and has(at(t, k - 3), BLANK) or starts(t, k - 6, b"--user", 6)):
        return i + 1
    line = back_to(t, k, LINE, 400)
    while line < k and not starts(t, line, b"curl ", 5):
        line += 1
    if line == k:
        return i + 1
    k = run(t, k, BLANK)
    k += k < t.n and t.p[k] in b"\"'"
    line = k
    while k < t.n and k - line < 256 and not has(t.p[k], BLANK | LINE) and t.p[k] not in b"\"'\\":
        if t.p[k] == c":" and not start:
            start = k + 1
        k += 1
    if not start or not 3 <= k - start <= 128 or t.p[start] in b"${%<*[" or filler(t.p + start, k - start):
        return i + 1
    if starts(t, start, b"pass", 4) and k - start <= 8:
        return i + 1
    found.kind, found.name, found.start, found.end = SECRET, PASSWORD, start, k
    return k


cdef Py_ssize_t authority(const Text *t, Py_ssize_t i, Span *found) noexcept nogil:
    """The password in the authority of the URL whose `://` is at i (RFC 3986 3.2.1), in `found`; where to go on."""
    cdef Py_ssize_t user = i + 3, k = user, start = 0, end = 0, n
    found.kind = NOTHING
    while k < t.n and k - user < 256 and not has(t.p[k], BLANK | LINE) and t.p[k] not in b"/\"'`<>\\":
        # passwords have #?(), too; but before one they end the authority
        if t.p[k] in b"?#()," and (not start or has(at(t, k + 1), LINE | BLANK)):
            break
        if t.p[k] == c":" and not start:
            start = k + 1
        elif t.p[k] == c"@":
            end = k
        k += 1
    n = end - start
    if not start or n < 1:
        return user
    # ${...}, {password}, %s, <password>, ****; the user's name again, which is what containers come with
    if not 3 <= n <= 128 or t.p[start] in b"${%<*[" or t.p[end - 1] in b"}>" or filler(t.p + start, n):
        return end
    if n <= 8 and (starts(t, start, b"pass", 4) or starts(t, start, b"pwd", 3) or starts(t, start, b"secret", 6)):
        return end
    if start - 1 - user == n and memcmp(t.p + start, t.p + user, n) == 0:
        return end
    found.kind, found.name, found.start, found.end = SECRET, URL_PASSWORD, start, end
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
