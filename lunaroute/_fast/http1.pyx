"""HTTP/1.1 heads and chunked bodies in one pass over the bytes: spans out, nothing copied, nothing allocated.

These are the rules that llhttp does not make (security.md 1.2) and the facts that the relay needs: fields, framing,
whose credential it is. llhttp sees the same bytes; where the two disagree the message is refused (relay.pyx).
Sources: RFC 9112 (syntax, framing), RFC 9110 5.5 (values), 7.6.1 (hop-by-hop), 7.8 (Upgrade), 10.1.1 (Expect).
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    /* token characters, RFC 9110 5.6.2 */
    static const unsigned char LR_TOKEN[256] = {
        ['!']=1,['#']=1,['$']=1,['%']=1,['&']=1,['\\'']=1,['*']=1,['+']=1,['-']=1,['.']=1,['^']=1,['_']=1,['`']=1,['|']=1,['~']=1,
        ['0']=1,['1']=1,['2']=1,['3']=1,['4']=1,['5']=1,['6']=1,['7']=1,['8']=1,['9']=1,
        ['A']=1,['B']=1,['C']=1,['D']=1,['E']=1,['F']=1,['G']=1,['H']=1,['I']=1,['J']=1,['K']=1,['L']=1,['M']=1,
        ['N']=1,['O']=1,['P']=1,['Q']=1,['R']=1,['S']=1,['T']=1,['U']=1,['V']=1,['W']=1,['X']=1,['Y']=1,['Z']=1,
        ['a']=1,['b']=1,['c']=1,['d']=1,['e']=1,['f']=1,['g']=1,['h']=1,['i']=1,['j']=1,['k']=1,['l']=1,['m']=1,
        ['n']=1,['o']=1,['p']=1,['q']=1,['r']=1,['s']=1,['t']=1,['u']=1,['v']=1,['w']=1,['x']=1,['y']=1,['z']=1};
    #ifdef __SSE2__
    #include <emmintrin.h>
    #endif
    /* offset of the first byte from i that is not legal in a field value (RFC 9110 5.5), or n */
    static inline uint32_t lr_value_end(const char *p, uint32_t i, uint32_t n) {
    #ifdef __SSE2__
        const __m128i low = _mm_set1_epi8(0x1f), tab = _mm_set1_epi8(9), del = _mm_set1_epi8(0x7f);
        while (i + 16 <= n) {
            __m128i x = _mm_loadu_si128((const __m128i *)(p + i));
            __m128i bad = _mm_andnot_si128(_mm_cmpeq_epi8(x, tab), _mm_cmpeq_epi8(_mm_min_epu8(x, low), x));
            int m = _mm_movemask_epi8(_mm_or_si128(bad, _mm_cmpeq_epi8(x, del)));
            if (m) return i + __builtin_ctz(m);
            i += 16;
        }
    #endif
        for (; i < n; i++) {
            unsigned char c = (unsigned char)p[i];
            if ((c < 0x20 && c != '\\t') || c == 0x7f) return i;
        }
        return n;
    }
    /* offset of the first byte from i that is no token character, or n */
    static inline uint32_t lr_token_end(const char *p, uint32_t i, uint32_t n) {
    #ifdef __SSE2__
        /* letters, digits and '-' sixteen at a time; any other token character by the table */
        while (i + 16 <= n) {
            __m128i x = _mm_loadu_si128((const __m128i *)(p + i));
            __m128i a = _mm_sub_epi8(_mm_or_si128(x, _mm_set1_epi8(0x20)), _mm_set1_epi8('a'));
            __m128i d = _mm_sub_epi8(x, _mm_set1_epi8('0'));
            __m128i ok = _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(_mm_min_epu8(a, _mm_set1_epi8(25)), a),
                                                   _mm_cmpeq_epi8(_mm_min_epu8(d, _mm_set1_epi8(9)), d)),
                                      _mm_cmpeq_epi8(x, _mm_set1_epi8('-')));
            int m = _mm_movemask_epi8(ok) ^ 0xffff;
            if (m == 0) { i += 16; continue; }
            i += __builtin_ctz(m);
            if (!LR_TOKEN[(unsigned char)p[i]]) return i;
            i++;
        }
    #endif
        while (i < n && LR_TOKEN[(unsigned char)p[i]]) i++;
        return i;
    }
    """
    const unsigned char LR_TOKEN[256]
    uint32_t lr_value_end(const char *p, uint32_t i, uint32_t n) noexcept nogil
    uint32_t lr_token_end(const char *p, uint32_t i, uint32_t n) noexcept nogil
    void *memmem(const void *hay, size_t n, const void *needle, size_t m) noexcept nogil

cdef enum:
    SIZE = 0
    EXTENSION = 1
    EXTENSION_QUOTED = 2
    EXTENSION_ESCAPE = 3
    SIZE_LF = 4
    DATA = 5
    DATA_CR = 6
    DATA_LF = 7
    TRAILER = 8
    TRAILER_NAME = 9
    TRAILER_VALUE = 10
    TRAILER_LF = 11
    LAST_LF = 12
    DONE = 13
    EXTENSION_NAME = 14

# 16 hex digits hold any length; more is a peer that plays games, even if they are zeros
cdef enum:
    DIGITS_MAX = 16
    METHOD_MAX = 32


cdef bint same(const char *p, uint32_t n, const char *lower, uint32_t size) noexcept nogil:
    """p equals `lower` but for the case of ASCII letters."""
    cdef uint32_t i
    cdef char c
    if n != size:
        return False
    for i in range(n):
        c = p[i]
        if 65 <= c <= 90:
            c += 32
        if c != lower[i]:
            return False
    return True


cdef bint starts(const char *p, uint32_t n, const char *lower, uint32_t size) noexcept nogil:
    return n >= size and same(p, size, lower, size)


cdef Py_ssize_t head_end(const char *p, Py_ssize_t n, Py_ssize_t start) noexcept nogil:
    """Offset behind the blank line that ends the head, or -1. start: how much was searched before."""
    cdef const char *at
    if start > 3:
        start -= 3
    else:
        start = 0
    if n - start < 4:
        return -1
    at = <const char *>memmem(p + start, n - start, b"\r\n\r\n", 4)
    return -1 if at == NULL else at - p + 4


cdef int classify(const char *p, uint32_t n) noexcept nogil:
    """The kind of a field by its name."""
    if n == 2:
        return HOP if same(p, n, b"te", 2) else OTHER
    if n == 4:
        return HOST if same(p, n, b"host", 4) else OTHER
    if n == 6:
        if same(p, n, b"expect", 6):
            return EXPECT
        return ORIGIN if same(p, n, b"origin", 6) else OTHER
    if n == 7:
        if same(p, n, b"upgrade", 7):
            return UPGRADE
        if same(p, n, b"trailer", 7):
            return HOP
        return VENDOR_KEY if same(p, n, b"api-key", 7) else OTHER
    if n == 9:
        return API_KEY if same(p, n, b"x-api-key", 9) else OTHER
    if n == 10:
        if same(p, n, b"connection", 10):
            return CONNECTION
        return HOP if same(p, n, b"keep-alive", 10) else OTHER
    if n > 12 and (p[0] | 32) == c"x" and starts(p, n, b"x-lunaroute-", 12):
        return OURS
    if n == 13:
        return AUTHORIZATION if same(p, n, b"authorization", 13) else OTHER
    if n == 14:
        if same(p, n, b"content-length", 14):
            return CONTENT_LENGTH
        if same(p, n, b"http2-settings", 14):
            return HOP
        if same(p, n, b"x-goog-api-key", 14):
            return VENDOR_KEY
        return FETCH_SITE if same(p, n, b"sec-fetch-site", 14) else OTHER
    if n == 16:
        return HOP if same(p, n, b"proxy-connection", 16) else OTHER
    if n == 17:
        return TRANSFER_ENCODING if same(p, n, b"transfer-encoding", 17) else OTHER
    if n == 18:
        if same(p, n, b"chatgpt-account-id", 18):
            return ACCOUNT
        return HOP if same(p, n, b"proxy-authenticate", 18) else OTHER
    if n == 19 and same(p, n, b"proxy-authorization", 19):
        return HOP
    return OTHER


cdef int scan_fields(const char *p, uint32_t i, uint32_t n, Scan *s, const Limits *limits) noexcept nogil:
    """The field lines from offset i to the blank line. 0, INCOMPLETE, or the status to refuse with. p[n] may be read (the
    bytes object's own NUL), nothing behind it."""
    cdef uint32_t line, name, value, run
    cdef Field *f
    cdef int kind
    s.count = 0
    s.signals = 0
    s.host = s.length = s.coding = s.origin = s.fetch_site = -1
    s.content_length = -1
    s.chunked = s.close = s.keep_alive = s.upgrade = s.upgrade_websocket = s.expect = False
    s.first = i
    while p[i] != c"\r":
        if i >= n:
            return INCOMPLETE
        if s.count >= <int>limits.header_count or s.count >= FIELDS_MAX:
            s.why = b"too many header fields"
            return 431
        line = i
        i = lr_token_end(p, i, n)
        name = i - line
        if i >= n:
            return INCOMPLETE
        if name == 0 or p[i] != c":":
            s.why = b"a header line is malformed"
            return 400
        i += 1
        while p[i] == c" " or p[i] == c"\t":
            i += 1
        value = i
        i = lr_value_end(p, i, n)
        if i + 1 >= n:
            if i < n and p[i] != c"\r":
                s.why = b"a header value has a control character or a bare line end in it"
                return 400
            return INCOMPLETE
        if p[i] != c"\r" or p[i + 1] != c"\n":
            s.why = b"a header value has a control character or a bare line end in it"
            return 400
        run = i - value
        while run and (p[value + run - 1] == c" " or p[value + run - 1] == c"\t"):
            run -= 1
        i += 2
        f = &s.fields[s.count]
        f.line = line
        f.name_len = name
        f.value = value
        f.value_len = run
        f.end = i
        kind = classify(p + line, name)
        f.kind = kind
        if kind != OTHER:
            if kind == HOST:
                if s.host >= 0:
                    s.why = b"more than one Host field"
                    return 400
                s.host = s.count
            elif kind == CONTENT_LENGTH:
                if s.length >= 0 and not (
                    run == s.fields[s.length].value_len and memcmp(p + value, p + s.fields[s.length].value, run) == 0
                    and s.status
                ):
                    s.why = b"more than one Content-Length field"
                    return 400
                if s.length >= 0:
                    f.kind = HOP        # an answer that repeats the same length: one is enough
                else:
                    s.length = s.count
            elif kind == TRANSFER_ENCODING:
                if s.coding >= 0:
                    s.why = b"more than one Transfer-Encoding field"
                    return 400
                s.coding = s.count
            elif kind == ORIGIN:
                if s.origin >= 0 and s.status == 0:
                    s.why = b"more than one Origin field"
                    return 400
                s.origin = s.count
            elif kind == FETCH_SITE:
                s.fetch_site = s.count
        elif s.status == 0:
            if (p[line] | 32) == c"a" and name > 10 and starts(p + line, name, b"anthropic-", 10):
                s.signals |= ANTHROPIC_FIELD
            elif (p[line] | 32) == c"o" and name > 7 and starts(p + line, name, b"openai-", 7):
                s.signals |= OPENAI_FIELD
        s.count += 1
    if i + 1 >= n:
        return INCOMPLETE
    if p[i + 1] != c"\n":
        s.why = b"a line of the head ends in a bare carriage return"
        return 400
    s.head_len = i + 2
    return framing(p, s, limits)


cdef int framing(const char *p, Scan *s, const Limits *limits) noexcept nogil:
    """Content-Length, Transfer-Encoding and Connection, RFC 9112 section 6 and 9."""
    cdef uint32_t i
    cdef int k
    cdef int64_t length = 0
    cdef Field *f
    if s.length >= 0:
        f = &s.fields[s.length]
        if f.value_len == 0 or f.value_len > 18:
            s.why = b"the Content-Length is not a decimal number in range"
            return 400
        for i in range(f.value_len):
            if not 48 <= p[f.value + i] <= 57:
                s.why = b"the Content-Length is not a decimal number"
                return 400
            length = length * 10 + (p[f.value + i] - 48)
        s.content_length = length
    if s.coding >= 0:
        if s.length >= 0:
            s.why = b"both Content-Length and Transfer-Encoding"
            return 400
        if s.minor == 0:
            s.why = b"Transfer-Encoding in an HTTP/1.0 message"
            return 400
        f = &s.fields[s.coding]
        if not same(p + f.value, f.value_len, b"chunked", 7):
            s.why = b"a Transfer-Encoding other than chunked"
            return 501 if s.status == 0 else 400
        s.chunked = True
    for k in range(s.count):
        if s.fields[k].kind == CONNECTION:
            connection(p, &s.fields[k], s)
    for k in range(s.count):
        if s.fields[k].kind == UPGRADE:
            if s.upgrade and same(p + s.fields[k].value, s.fields[k].value_len, b"websocket", 9):
                s.upgrade_websocket = True
    return 0


cdef bint guarded(int kind) noexcept nogil:
    """Fields that a Connection option must not remove: framing, routing and credentials (security.md: hop-by-hop abuse)."""
    return kind != OTHER


cdef void connection(const char *p, Field *f, Scan *s) noexcept nogil:
    """The options of one Connection field; fields that it names become hop-by-hop."""
    cdef uint32_t i = f.value
    cdef uint32_t end = f.value + f.value_len
    cdef uint32_t start, size
    cdef int k
    cdef Field *other
    while i < end:
        while i < end and (p[i] == c" " or p[i] == c"\t" or p[i] == c","):
            i += 1
        start = i
        while i < end and p[i] != c"," and p[i] != c" " and p[i] != c"\t":
            i += 1
        size = i - start
        if size == 0:
            continue
        if same(p + start, size, b"keep-alive", 10):
            s.keep_alive = True
        elif same(p + start, size, b"upgrade", 7):
            s.upgrade = True
        else:
            if same(p + start, size, b"close", 5):
                s.close = True
            for k in range(s.count):
                other = &s.fields[k]
                if other.name_len == size and not guarded(other.kind) and alike(p + other.line, p + start, size):
                    other.kind = HOP


cdef bint alike(const char *a, const char *b, uint32_t n) noexcept nogil:
    cdef uint32_t i
    cdef char x, y
    for i in range(n):
        x = a[i]
        y = b[i]
        if 65 <= x <= 90:
            x += 32
        if 65 <= y <= 90:
            y += 32
        if x != y:
            return False
    return True


cdef bint known_method(const char *p, uint32_t n) noexcept nogil:
    if n == 4:
        return memcmp(p, b"POST", 4) == 0 or memcmp(p, b"HEAD", 4) == 0
    if n == 3:
        return memcmp(p, b"GET", 3) == 0 or memcmp(p, b"PUT", 3) == 0
    if n == 5:
        return memcmp(p, b"PATCH", 5) == 0
    if n == 6:
        return memcmp(p, b"DELETE", 6) == 0
    return n == 7 and memcmp(p, b"OPTIONS", 7) == 0


cdef int scan_request(const char *p, Py_ssize_t n, Scan *s, const Limits *limits) noexcept nogil:
    """The request head at p[0:n]. 0, INCOMPLETE, or the status to refuse it with (s.why says why)."""
    cdef uint32_t i
    cdef uint32_t start
    cdef int status
    cdef uint8_t c
    s.why = NULL
    s.status = 0
    s.count = 0
    s.host = s.length = s.coding = s.origin = s.fetch_site = -1
    s.target = s.target_len = s.path_len = s.head_len = 0
    s.method_len = i = lr_token_end(p, 0, <uint32_t>n)
    if i > METHOD_MAX:
        s.method_len = 0
        s.why = b"this method is not supported"
        return 501
    if i >= n:
        return INCOMPLETE
    if i == 0 or p[i] != c" ":
        s.why = b"this is not an HTTP request"
        return 400
    i += 1
    start = i
    s.target = start
    while True:
        c = p[i]
        if c <= 0x20 or c >= 0x7f:
            break
        if c == c"?" and s.path_len == 0:
            s.path_len = i - start
        elif c == c"#":
            s.why = b"the request target has a fragment"
            return 400
        i += 1
    s.target_len = i - start
    if s.path_len == 0:
        s.path_len = s.target_len
    if s.target_len > limits.url_bytes:
        s.why = b"the request target is too long"
        return 414
    if i >= n:
        return INCOMPLETE
    if p[i] != c" ":
        s.why = b"the request line is malformed"
        return 400
    if n - i < 11:
        return INCOMPLETE
    if memcmp(p + i + 1, b"HTTP/", 5) != 0:
        s.why = b"the request line is malformed"
        return 400
    i += 6
    if p[i + 3] != c"\r" or p[i + 4] != c"\n" or p[i + 1] != c"." or not 48 <= p[i] <= 57 or not 48 <= p[i + 2] <= 57:
        s.why = b"the request line is malformed"
        return 400
    if p[i] != c"1" or (p[i + 2] != c"0" and p[i + 2] != c"1"):
        s.why = b"only HTTP/1.1 and HTTP/1.0 are spoken here"
        return 505
    s.minor = p[i + 2] - 48
    i += 5
    if not known_method(p, s.method_len):
        s.why = b"this method is not supported"
        return 501
    if s.target_len == 0 or p[start] != c"/":
        s.why = b"the request target must be a path"
        return 400
    status = scan_fields(p, i, <uint32_t>n, s, limits)
    if status:
        return status
    return request_rules(p, s, limits)


cdef int request_rules(const char *p, Scan *s, const Limits *limits) noexcept nogil:
    """What holds for requests alone: Host, Expect, Upgrade, size; and the signals of whose request it is."""
    cdef int k
    cdef Field *f
    if s.host < 0:
        s.why = b"the Host field is missing"
        return 400
    if s.content_length > limits.body_bytes:
        s.why = b"the request body is larger than limits.body_bytes allows"
        return 413
    if s.upgrade and (s.content_length > 0 or s.chunked):
        for k in range(s.count):
            if s.fields[k].kind == UPGRADE:
                s.why = b"a request to upgrade must not have a body"
                return 400
    for k in range(s.count):
        f = &s.fields[k]
        if f.kind == EXPECT:
            if not same(p + f.value, f.value_len, b"100-continue", 12):
                s.why = b"only 100-continue can be expected"
                return 417
            s.expect = True
        elif f.kind == AUTHORIZATION:
            s.signals |= BEARER | bearer(p + f.value, f.value_len)
        elif f.kind == API_KEY:
            s.signals |= KEY
            if of_anthropic(p + f.value, f.value_len):
                s.signals |= KEY_ANTHROPIC
            elif of_openai(p + f.value, f.value_len):
                s.signals |= KEY_OPENAI
        elif f.kind == VENDOR_KEY:
            s.signals |= AZURE_KEY if f.name_len == 7 else GOOGLE_KEY
            if of_anthropic(p + f.value, f.value_len):
                s.signals |= VENDOR_KEY_ANTHROPIC
        elif f.kind == ACCOUNT:
            s.signals |= CHATGPT
        elif f.kind == OURS:
            s.signals |= CONTROL
    if s.upgrade_websocket and s.minor == 1 and s.method_len == 3 and memcmp(p, b"GET", 3) == 0:
        s.signals |= WEBSOCKET
    return 0


cdef int bearer(const char *p, uint32_t n) noexcept nogil:
    """Whose credential an Authorization value is. A key is known wherever it stands: who writes another scheme, none, or
    quotes around it does not mean that it may go to the other vendor."""
    cdef uint32_t i = 7
    if of_anthropic(p, n):
        return BEARER_ANTHROPIC
    if of_openai(p, n):
        return BEARER_OPENAI
    if n > 7 and starts(p, n, b"bearer", 6) and (p[6] == c" " or p[6] == c"\t"):
        while i < n and (p[i] == c" " or p[i] == c"\t"):
            i += 1
        if n - i > 3 and memcmp(p + i, b"eyJ", 3) == 0:
            return BEARER_JWT
    return 0


cdef bint of_anthropic(const char *p, uint32_t n) noexcept nogil:
    return n >= 7 and memmem(p, n, b"sk-ant-", 7) != NULL


cdef bint of_openai(const char *p, uint32_t n) noexcept nogil:
    """Keys that only OpenAI gives out: its prefixes, and the marker that stands in every one of them."""
    return n >= 8 and (
        memmem(p, n, b"sk-proj-", 8) != NULL
        or memmem(p, n, b"T3BlbkFJ", 8) != NULL
        or memmem(p, n, b"sk-svcacct-", 11) != NULL
        or memmem(p, n, b"sk-admin-", 9) != NULL
    )


cdef int scan_response(const char *p, Py_ssize_t n, Scan *s, const Limits *limits) noexcept nogil:
    """The answer head at p[0:n]. 0, INCOMPLETE, or 1 when it cannot be used (s.why says why)."""
    cdef uint32_t i
    cdef int status
    s.why = NULL
    s.status = 1
    s.count = 0
    s.host = s.length = s.coding = -1
    if memcmp(p, b"HTTP/1.", min(n, 7)) != 0:
        s.why = b"the provider's answer does not begin with an HTTP/1.x status line"
        return 1
    if n < 14:
        return INCOMPLETE
    if (p[7] != c"0" and p[7] != c"1") or p[8] != c" ":
        s.why = b"the provider's answer does not begin with an HTTP/1.x status line"
        return 1
    s.minor = p[7] - 48
    for i in range(9, 12):
        if not 48 <= p[i] <= 57:
            s.why = b"the provider's status line has no status code"
            return 1
    s.status = (p[9] - 48) * 100 + (p[10] - 48) * 10 + (p[11] - 48)
    if s.status < 100 or s.status > 599:
        s.why = b"the provider's status code is out of range"
        return 1
    i = 12
    if p[i] == c" ":
        i += 1
    elif p[i] != c"\r":
        s.why = b"the provider's status line is malformed"
        return 1
    s.reason = i
    i = lr_value_end(p, i, <uint32_t>n)
    s.reason_len = i - s.reason
    if i < n and p[i] != c"\r" or i + 1 < n and p[i + 1] != c"\n":
        s.why = b"the provider's reason phrase has a control character in it"
        return 1
    if i + 1 >= n:
        return INCOMPLETE
    status = scan_fields(p, i + 2, <uint32_t>n, s, limits)
    return status if status <= 0 else 1


# --- chunked bodies, RFC 9112 7.1 -------------------------------------------------------------------------------

cdef void chunks_start(Chunks *c) noexcept nogil:
    c.at = SIZE
    c.left = c.total = 0
    c.digits = c.extensions = c.trailers = c.name = 0
    c.plain = True


cdef bint chunks_done(const Chunks *c) noexcept nogil:
    return c.at == DONE


cdef bint chunks_between(const Chunks *c) noexcept nogil:
    """Nothing of a chunk is half seen."""
    return (c.at == SIZE and c.digits == 0) or c.at == DONE


cdef Py_ssize_t chunks_feed(Chunks *c, const char *p, Py_ssize_t n, Span *spans, int room, int *used,
                            const Limits *limits) noexcept nogil:
    """Decode p[0:n]: spans of payload, at most `room` of them.

    Returns how many bytes were taken: less than n where the message ended or the spans are full; -1 where the bytes
    break the rules.
    """
    cdef Py_ssize_t i = 0
    cdef uint64_t take
    cdef uint8_t b
    cdef int digit
    used[0] = 0
    while i < n and c.at != DONE:
        if c.at == DATA:
            if used[0] == room:
                return i
            take = <uint64_t>(n - i)
            if take > c.left:
                take = c.left
            spans[used[0]].start = <uint32_t>i
            spans[used[0]].size = <uint32_t>take
            used[0] += 1
            c.left -= take
            c.total += take
            i += take
            if c.left == 0:
                c.at = DATA_CR
            continue
        b = p[i]
        i += 1
        if c.at == SIZE:
            if 48 <= b <= 57:
                digit = b - 48
            elif 97 <= b <= 102:
                digit = b - 87
            elif 65 <= b <= 70:
                digit = b - 55
                c.plain = False
            elif b == c"\r" and c.digits:
                c.at = SIZE_LF
                continue
            elif b == c";" and c.digits:
                c.plain = False
                c.name = 0
                c.at = EXTENSION_NAME
                continue
            else:
                return -1
            if c.digits == 1 and c.left == 0:
                c.plain = False             # a leading zero
            c.digits += 1
            if c.digits > DIGITS_MAX or c.left >> 58:
                return -1
            c.left = (c.left << 4) | <uint64_t>digit
        elif c.at == SIZE_LF:
            if b != c"\n":
                return -1
            c.digits = 0
            if c.left:
                c.at = DATA
            else:
                c.at = TRAILER
        elif c.at == DATA_CR:
            if b != c"\r":
                return -1
            c.at = DATA_LF
        elif c.at == DATA_LF:
            if b != c"\n":
                return -1
            c.at = SIZE
        elif c.at == EXTENSION_NAME or c.at == EXTENSION or c.at == EXTENSION_QUOTED or c.at == EXTENSION_ESCAPE:
            c.extensions += 1
            if c.extensions > limits.extension_bytes or not extension(c, b):
                return -1
        else:
            c.plain = c.plain and (c.at == TRAILER or c.at == LAST_LF) and (b == c"\r" or b == c"\n")
            c.trailers += 1
            if c.trailers > limits.trailer_bytes or not trailer(c, b):
                return -1
    return i


cdef bint extension(Chunks *c, uint8_t b) noexcept nogil:
    """One byte of `;name[=value|="quoted"]`; blanks are not taken. c.name counts the bytes of the name."""
    if c.at == EXTENSION_ESCAPE:
        c.at = EXTENSION_QUOTED
        return b == 9 or (b >= 32 and b != 127)
    if c.at == EXTENSION_QUOTED:
        if b == c'"':
            c.at = EXTENSION
        elif b == c"\\":
            c.at = EXTENSION_ESCAPE
        else:
            return b == 9 or (b >= 32 and b != 127)
        return True
    if b == c"\r":
        if c.at == EXTENSION_NAME and c.name == 0:
            return False
        c.at = SIZE_LF
        return True
    if b == c";":
        if c.at == EXTENSION_NAME and c.name == 0:
            return False
        c.at = EXTENSION_NAME
        c.name = 0
        return True
    if c.at == EXTENSION_NAME:
        if b == c"=":
            c.at = EXTENSION
            return c.name > 0
        c.name += 1
        return LR_TOKEN[b]
    if b == c'"':
        c.at = EXTENSION_QUOTED
        return True
    return LR_TOKEN[b]


cdef bint trailer(Chunks *c, uint8_t b) noexcept nogil:
    """One byte of the trailer section. Trailers are checked and dropped."""
    if c.at == TRAILER:
        if b == c"\r":
            c.at = LAST_LF
            return True
        c.at = TRAILER_NAME
        return LR_TOKEN[b]
    if c.at == LAST_LF:
        c.at = DONE
        return b == c"\n"
    if c.at == TRAILER_NAME:
        if b == c":":
            c.at = TRAILER_VALUE
            return True
        return LR_TOKEN[b]
    if c.at == TRAILER_VALUE:
        if b == c"\r":
            c.at = TRAILER_LF
            return True
        return b == 9 or (b >= 32 and b != 127)
    c.at = TRAILER          # TRAILER_LF
    return b == c"\n"
