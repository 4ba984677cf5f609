"""Server-sent events out of bytes in any pieces (WHATWG HTML section 9.2). Imports nothing of ours but find.

An event is a tuple (name, data, id, piece): piece is the number of the piece that ended it, the first one fed is 0. Lines
end with LF, CR or CRLF and with nothing else. Two things go beyond the standard's reader, for recording: `finish` gives
the last event although its blank line is missing, and what is over the size limit is dropped and counted.

Deltas. Nearly all events of an Anthropic stream are

    event: content_block_delta
    data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"..."}}

and what counts in them is the text. With `deltas` those that look exactly so are read here: one after the other for the
same block they are one tuple (index, "text_delta", text, piece) with all of their text, piece being that of the first.
Whatever looks otherwise, or is no good JSON or UTF-8 in its text, or has half of a surrogate pair, is an event as ever.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport free, realloc
from libc.string cimport memchr, memcmp, memcpy

from lunaroute._fast.find cimport sequence

cdef enum:
    NAMES_MAX = 256         # of event names as many are remembered
    NAME_MAX = 64
    INDEX_DIGITS = 6

cdef bytes BOM = b"\xef\xbb\xbf"
cdef const char *DELTA = b"content_block_delta"
cdef const char *OPENS = b'{"type":"content_block_delta","index":'
cdef const char *KIND = b',"delta":{"type":"'
cdef Py_ssize_t DELTA_SIZE = 19, OPENS_SIZE = 38, KIND_SIZE = 18
# what stands between KIND and the text
cdef tuple FIELDS = (
    b'text_delta","text":"',
    b'input_json_delta","partial_json":"',
    b'thinking_delta","thinking":"',
)
cdef tuple KINDS = ("text_delta", "input_json_delta", "thinking_delta")

cdef extern from *:
    """
    #include <stddef.h>
    #if defined(__SSE2__)
    #include <emmintrin.h>
    #endif
    /* the first byte from `at` on that is not plain text of a JSON string: a quote, a backslash, a control, not ASCII */
    static ptrdiff_t lr_plain(const char *p, ptrdiff_t at, ptrdiff_t n) {
    #if defined(__SSE2__)
        const __m128i quote = _mm_set1_epi8('"'), slash = _mm_set1_epi8('\\\\'), blank = _mm_set1_epi8(' ');
        while (at + 16 <= n) {
            __m128i x = _mm_loadu_si128((const __m128i *)(p + at));
            /* signed: what is not ASCII is below a blank, too */
            int hit = _mm_movemask_epi8(_mm_or_si128(_mm_cmplt_epi8(x, blank),
                                                     _mm_or_si128(_mm_cmpeq_epi8(x, quote), _mm_cmpeq_epi8(x, slash))));
            if (hit) return at + __builtin_ctz(hit);
            at += 16;
        }
    #endif
        while (at < n && p[at] != '"' && p[at] != '\\\\' && (unsigned char)p[at] >= 0x20 && (unsigned char)p[at] < 0x80) at++;
        return at;
    }
    """
    Py_ssize_t lr_plain(const char *p, Py_ssize_t at, Py_ssize_t n) noexcept nogil


cdef class Events:
    """See the module. limit: bytes of an event's data; larger ones are dropped (`dropped` counts them)."""

    cdef readonly Py_ssize_t dropped
    cdef Py_ssize_t limit, held_bytes, size, number
    cdef bint deltas, after_cr, start, is_delta
    cdef list partial           # of the line whose end has not come
    cdef list data              # of the event whose end has not come: values of its data lines from earlier pieces
    cdef const char *only       # its only data line, in the piece at hand; NULL: see `data`
    cdef Py_ssize_t only_size
    cdef str event, id
    cdef dict names
    cdef list out
    # deltas one after the other
    cdef char *run
    cdef Py_ssize_t run_size, run_room, run_number
    cdef int run_index, run_kind

    def __cinit__(self, Py_ssize_t limit=16 * 1024 * 1024, bint deltas=False):
        self.limit = limit
        self.deltas = deltas
        self.start = True
        self.number = -1
        self.run_kind = -1
        self.partial, self.data, self.names, self.out = [], [], {}, []
        self.event, self.id = "message", ""

    def __dealloc__(self):
        free(self.run)

    def __repr__(self):
        return f"<Events after {self.number + 1} pieces, {self.dropped} dropped>"

    @property
    def held(self):
        """Bytes kept of a line whose end has not come."""
        return self.held_bytes

    def feed(self, pieces):
        """The events that end in these pieces."""
        cdef list out
        for piece in pieces:
            self.number += 1
            self.piece(piece)
        self.end_run()
        out, self.out = self.out, []
        return out

    def finish(self):
        """What the end of the stream left without its blank line."""
        cdef list out
        cdef bytes last = b"".join(self.partial) + b"\n\n" if self.partial else b"\n"
        self.partial, self.held_bytes = [], 0
        self.lines(last)
        self.end_run()
        out, self.out = self.out, []
        return out

    # --- pieces ---------------------------------------------------------------------------------------
    cdef int piece(self, bytes piece) except -1:
        cdef const char *p = PyBytes_AS_STRING(piece)
        cdef Py_ssize_t n = PyBytes_GET_SIZE(piece)
        cdef bint cr
        if n == 0:
            return 0
        if self.after_cr:
            self.after_cr = False
            if p[0] == c"\n":
                return self.piece(piece[1:])
        cr = memchr(p, c"\r", n) != NULL
        if not cr and memchr(p, c"\n", n) == NULL:
            return self.keep(piece)
        if self.partial:
            self.partial.append(piece)
            piece = b"".join(self.partial)
            self.partial, self.held_bytes = [], 0
        if cr:
            self.after_cr = piece.endswith(b"\r")
            piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return self.lines(piece)

    cdef int keep(self, bytes piece) except -1:
        # a line over the limit is kept up to it: its field name still decides what becomes of it
        cdef Py_ssize_t room = self.limit + 3 + 16 - self.held_bytes
        if room > 0:
            if PyBytes_GET_SIZE(piece) > room:
                piece = piece[:room]
            self.partial.append(piece)
            self.held_bytes += PyBytes_GET_SIZE(piece)
        return 0

    cdef int lines(self, bytes whole) except -1:
        """All lines that end in these bytes; the rest is kept."""
        cdef const char *p = PyBytes_AS_STRING(whole)
        cdef const char *end = p + PyBytes_GET_SIZE(whole)
        cdef const char *stop
        while True:
            stop = <const char *>memchr(p, c"\n", end - p) if p < end else NULL
            if stop == NULL:
                break
            if self.start:
                self.start = False
                if stop - p >= 3 and memcmp(p, PyBytes_AS_STRING(BOM), 3) == 0:
                    p += 3
            self.line(p, stop - p)
            p = stop + 1
        if self.only != NULL:       # the bytes go, the event goes on
            self.data.append(PyBytes_FromStringAndSize(self.only, self.only_size))
            self.only = NULL
        if p < end:
            return self.keep(PyBytes_FromStringAndSize(p, end - p))
        return 0

    cdef int line(self, const char *p, Py_ssize_t n) except -1:
        cdef const char *colon
        cdef Py_ssize_t name, value
        if n == 0:
            return self.dispatch()
        colon = <const char *>memchr(p, c":", n)
        name = n if colon == NULL else colon - p
        if name == 0:
            return 0
        value = n if colon == NULL else name + 1
        if value < n and p[value] == c" ":
            value += 1
        if name == 4 and memcmp(p, b"data", 4) == 0:
            return self.add(p + value, n - value)
        if name == 5 and memcmp(p, b"event", 5) == 0:
            return self.named(p + value, n - value)
        if name == 2 and memcmp(p, b"id", 2) == 0 and memchr(p + value, 0, n - value) == NULL:
            self.id = p[value:n].decode("utf-8", "replace")
        return 0

    cdef int named(self, const char *p, Py_ssize_t n) except -1:
        """Event names come again and again; only a bounded number is remembered."""
        cdef bytes name = PyBytes_FromStringAndSize(p, n)
        known = self.names.get(name)
        if known is None:
            known = name.decode("utf-8", "replace") or "message"
            if len(self.names) < NAMES_MAX and n < NAME_MAX:
                self.names[name] = known
        self.event = known
        self.is_delta = self.deltas and n == DELTA_SIZE and memcmp(p, DELTA, n) == 0
        return 0

    cdef int add(self, const char *p, Py_ssize_t n) except -1:
        self.size += n + 1
        if self.size <= self.limit:
            if self.only == NULL and not self.data:
                self.only, self.only_size = p, n
                return 0
            if self.only != NULL:
                self.data.append(PyBytes_FromStringAndSize(self.only, self.only_size))
                self.only = NULL
            self.data.append(PyBytes_FromStringAndSize(p, n))
        elif self.only == NULL and not self.data:
            self.data.append(b"")       # that there was data is all that is kept of it
        return 0

    cdef int dispatch(self) except -1:
        cdef bytes data
        if self.only != NULL or self.data:
            if self.size > self.limit + 1:
                self.dropped += 1
            elif self.only != NULL and self.is_delta and self.delta(self.only, self.only_size):
                pass
            else:
                if self.only != NULL:
                    data = PyBytes_FromStringAndSize(self.only, self.only_size)
                else:
                    data = self.data[0] if len(self.data) == 1 else b"\n".join(self.data)
                if self.is_delta and self.only == NULL and self.delta(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data)):
                    pass
                else:
                    self.end_run()
                    self.out.append((self.event, data, self.id, self.number))
            if self.data:
                self.data = []
            self.only = NULL
            self.size = 0
        self.event = "message"
        self.is_delta = False
        return 0

    # --- deltas ---------------------------------------------------------------------------------------
    cdef int delta(self, const char *p, Py_ssize_t n) except -1:
        """1 where it was one that looks as nearly all do; its text is in the run then."""
        cdef Py_ssize_t at = OPENS_SIZE, before, begun
        cdef int index = 0, kind, found = -1
        cdef const char *field
        if n < OPENS_SIZE or memcmp(p, OPENS, OPENS_SIZE) != 0:
            return 0
        begun = at
        while at < n and c"0" <= p[at] <= c"9":
            index = index * 10 + (p[at] - c"0")
            at += 1
            if at - begun > INDEX_DIGITS:
                return 0
        if at == begun or (p[begun] == c"0" and at - begun > 1):
            return 0
        if n - at < KIND_SIZE or memcmp(p + at, KIND, KIND_SIZE) != 0:
            return 0
        at += KIND_SIZE
        for kind in range(3):
            field = PyBytes_AS_STRING(FIELDS[kind])
            before = PyBytes_GET_SIZE(FIELDS[kind])
            if n - at >= before and memcmp(p + at, field, before) == 0:
                found = kind
                at += before
                break
        if found < 0:
            return 0
        if found != self.run_kind or index != self.run_index:
            self.end_run()
        before = self.run_size
        at = self.string(p, at, n)
        if at < 0 or not closed(p, at, n):
            self.run_size = before
            return 0
        if self.run_kind < 0:
            self.run_kind, self.run_index, self.run_number = found, index, self.number
        return 1

    cdef Py_ssize_t string(self, const char *p, Py_ssize_t at, Py_ssize_t n) except -2:
        """Put the rest of a JSON string into the run, as UTF-8; behind its quote, or -1 where it is none."""
        cdef Py_ssize_t stop, size
        cdef char c
        if n - at > self.run_room - self.run_size:      # what is written is never longer than what is read
            self.make_room(n - at)
        while True:
            stop = lr_plain(p, at, n)
            memcpy(self.run + self.run_size, p + at, stop - at)
            self.run_size += stop - at
            at = stop
            if at >= n:
                return -1
            c = p[at]
            if c == c'"':
                return at + 1
            if c == c"\\":
                if at + 1 >= n:
                    return -1
                c = p[at + 1]
                at += 2
                if c == c"n": c = c"\n"
                elif c == c"t": c = c"\t"
                elif c == c"r": c = c"\r"
                elif c == c"b": c = c"\b"
                elif c == c"f": c = c"\f"
                elif c == c"u":
                    size = coded(p + at, n - at, self.run + self.run_size)
                    if size == 0:
                        return -1
                    self.run_size += size
                    at += 4
                    continue
                elif c != c'"' and c != c"\\" and c != c"/":
                    return -1
                self.run[self.run_size] = c
                self.run_size += 1
            elif <uint8_t>c < 0x20:
                return -1
            else:
                size = sequence(<const uint8_t *>p + at, n - at)
                if size == 0:
                    return -1
                memcpy(self.run + self.run_size, p + at, size)
                self.run_size += size
                at += size

    cdef int make_room(self, Py_ssize_t more) except -1:
        cdef Py_ssize_t room = max(2 * self.run_room, self.run_size + more, 1024)
        cdef char *made = <char *>realloc(self.run, room)
        if made == NULL:
            raise MemoryError()
        self.run, self.run_room = made, room
        return 0

    cdef int end_run(self) except -1:
        if self.run_kind >= 0:
            text = PyUnicode_DecodeUTF8(self.run, self.run_size, NULL)
            self.out.append((self.run_index, KINDS[self.run_kind], text, self.run_number))
            self.run_kind = -1
        self.run_size = 0
        return 0


cdef bint closed(const char *p, Py_ssize_t at, Py_ssize_t n) noexcept nogil:
    """Whether nothing but two closing braces follows; blanks may stand between and behind them."""
    cdef int braces = 0
    while at < n:
        if p[at] == c"}":
            braces += 1
        elif p[at] != c" ":
            return False
        at += 1
    return braces == 2


cdef Py_ssize_t coded(const char *p, Py_ssize_t n, char *to) noexcept nogil:
    """The character of four hexadecimal digits as UTF-8; 0 where they are none, or half of a surrogate pair."""
    cdef uint32_t value = 0
    cdef int i
    cdef char c
    if n < 4:
        return 0
    for i in range(4):
        c = p[i]
        if c"0" <= c <= c"9":
            value = value << 4 | <uint32_t>(c - c"0")
        elif c"a" <= (c | 0x20) <= c"f":
            value = value << 4 | <uint32_t>((c | 0x20) - c"a" + 10)
        else:
            return 0
    if value < 0x80:
        to[0] = <char>value
        return 1
    if value < 0x800:
        to[0] = <char>(0xC0 | value >> 6)
        to[1] = <char>(0x80 | value & 0x3F)
        return 2
    if 0xD800 <= value < 0xE000:
        return 0
    to[0] = <char>(0xE0 | value >> 12)
    to[1] = <char>(0x80 | value >> 6 & 0x3F)
    to[2] = <char>(0x80 | value & 0x3F)
    return 3
