"""Every text of a body as its reader sees it: strings of JSON values, and what a stream brought of one text in pieces.

Imports nothing of ours but _fast. Looks at no text itself: each is shown to `look(text, context)`, which answers with
edits of it (see texts.pyx); what comes out are edits of the body. A JSON value with such edits is still one, an event
still an event. context: the name of the member that has the text, as far as there is one.

Pieces: in events (of a stream, or JSON values one after the other) strings that stand at the same place and are called
a delta belong together, in their order. A place is the names on the way to it, and the numbers that the objects on that
way give themselves (`index`, `output_index`, ...), for texts come side by side. Which API it is does not matter.

Nothing here fails on what is no JSON: that is said, and the caller takes it for plain text.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memchr, memcmp

from lunaroute._fast.cuts cimport siphash
from lunaroute._fast.texts cimport STRING, Span, Text, text_of

cdef extern from *:
    """
    #include <stdint.h>
    #if defined(__SSE2__)
    #include <emmintrin.h>
    #endif
    /* the closing quote of the string whose inside begins at `at`, or n where it does not end before; whether a
       backslash was seen */
    static int64_t lr_quote(const char *p, int64_t at, int64_t n, int *escaped) {
        for (;;) {
    #if defined(__SSE2__)
            const __m128i quote = _mm_set1_epi8('"'), slash = _mm_set1_epi8('\\\\');
            while (at + 16 <= n) {
                __m128i x = _mm_loadu_si128((const __m128i *)(p + at));
                int hit = _mm_movemask_epi8(_mm_or_si128(_mm_cmpeq_epi8(x, quote), _mm_cmpeq_epi8(x, slash)));
                if (hit) { at += __builtin_ctz(hit); break; }
                at += 16;
            }
    #endif
            while (at < n && p[at] != '"' && p[at] != '\\\\') at++;
            if (at >= n) return n;
            if (p[at] == '"') return at;
            *escaped = 1;
            at += 2;
            if (at > n) return n;
        }
    }
    """
    int64_t lr_quote(const char *p, int64_t at, int64_t n, int *escaped) noexcept nogil

cdef enum:
    NODES = 512             # objects and arrays of one event whose place is known; a delta beyond them stands alone
    PIECES = 512            # of texts in one event
    WORD = 15               # bytes of a word that is no key, no number and no address by itself, ...
    DIGITS = 6              # ... where it has no more digits than these
    DEPTH = 5000            # of nesting; more is not taken for JSON
    NUMBER = 7              # bytes of the shortest number that is looked at

    # how a value ended
    NONE = 0                # it is no JSON
    CUT = 1                 # the bytes end in it
    FINE = 2

    # what is expected
    VALUE = 0
    FIRST_ITEM = 1
    FIRST_NAME = 2
    NAME = 3
    COLON = 4
    AFTER = 5

    # what a member's name says of it
    PLAIN = 0
    DELTA = 1               # a piece of a text, or an object with pieces
    CHOICES = 2             # has the pieces of an answer
    TEXTUAL = 3             # such a piece
    SCALAR = 4              # never one
    INDEX = 5
    ITEM = 6
    TYPE = 7

    # flags of a place
    IN_DELTA = 1
    IN_CHOICES = 2

ctypedef struct Level:
    int64_t key0, key1      # the name under which the values here stand; key1 < 0 where there is none
    int64_t place           # of the next value in its array
    uint64_t hash           # of the name where it has escapes, else 0
    int32_t node
    uint8_t word            # of the name
    uint8_t flags
    bint object

ctypedef struct Node:
    uint64_t key, ids, item, type, place
    int32_t above

ctypedef struct Piece:
    int64_t start, end
    int64_t key0, key1
    uint64_t key
    int32_t node
    bint escaped, alone

import os

Look = object               # for annotations: (text, context) to edits

cdef uint64_t K0, K1
K0, K1 = int.from_bytes(os.urandom(8), "little"), int.from_bytes(os.urandom(8), "little")


cdef inline uint64_t mixed(uint64_t h, uint64_t more) noexcept nogil:
    h = (h ^ more) * <uint64_t>0x9E3779B97F4A7C15
    return h ^ (h >> 29)


cdef inline bint named(const char *p, int64_t n, const char *name, int64_t size) noexcept nogil:
    return n == size and memcmp(p, name, size) == 0


cdef inline bint begins(const char *p, int64_t n, const char *name, int64_t size) noexcept nogil:
    return n <= size and memcmp(p, name, n) == 0


cdef uint8_t word_of(const char *p, int64_t n) noexcept nogil:
    """What the name of a member says. The names are those of the APIs in use; of others nothing is assumed."""
    if n == 2:
        return SCALAR if named(p, n, "id", 2) else PLAIN
    if n == 4:
        if named(p, n, "text", 4):
            return TEXTUAL
        if named(p, n, "type", 4):
            return TYPE
        return SCALAR if named(p, n, "role", 4) or named(p, n, "name", 4) or named(p, n, "data", 4) else PLAIN
    if n == 5:
        return DELTA if named(p, n, "delta", 5) else INDEX if named(p, n, "index", 5) else SCALAR if named(p, n, "model", 5) else PLAIN
    if n == 6:
        return SCALAR if named(p, n, "status", 6) or named(p, n, "object", 6) or named(p, n, "format", 6) else PLAIN
    if n == 7:
        if named(p, n, "content", 7):
            return TEXTUAL
        if named(p, n, "choices", 7) or named(p, n, "message", 7):
            return CHOICES
        return ITEM if named(p, n, "item_id", 7) else SCALAR if named(p, n, "call_id", 7) else PLAIN
    if n == 8:
        return TEXTUAL if named(p, n, "response", 8) or named(p, n, "thinking", 8) else SCALAR if named(p, n, "event_id", 8) else PLAIN
    if n == 9:
        return TEXTUAL if named(p, n, "reasoning", 9) else SCALAR if named(p, n, "signature", 9) or named(p, n, "mime_type", 9) else PLAIN
    if n == 10:
        if named(p, n, "completion", 10):
            return TEXTUAL
        return CHOICES if named(p, n, "candidates", 10) else SCALAR if named(p, n, "media_type", 10) else PLAIN
    if n == 11:
        return SCALAR if named(p, n, "stop_reason", 11) or named(p, n, "obfuscation", 11) else PLAIN
    if n == 12:
        return INDEX if named(p, n, "output_index", 12) else PLAIN
    if n == 13:
        if named(p, n, "content_index", 13) or named(p, n, "summary_index", 13):
            return INDEX
        return DELTA if named(p, n, "content_block", 13) else SCALAR if named(p, n, "finish_reason", 13) else PLAIN
    if n == 17:
        return TEXTUAL if named(p, n, "reasoning_content", 17) else SCALAR if named(p, n, "encrypted_content", 17) else PLAIN
    return PLAIN


cdef bint word_like(const char *p, int64_t n) noexcept nogil:
    """A short word of letters and a few digits."""
    cdef int64_t i
    cdef int digits = 0
    if n > WORD:
        return False
    for i in range(n):
        if c"0" <= p[i] <= c"9":
            digits += 1
        elif not (c"a" <= (p[i] | 0x20) <= c"z" or p[i] == c"_" or p[i] == c"-"):
            return False
    return digits <= DIGITS


cdef class Known:
    """Texts that have been looked at and had nothing in them, by a keyed digest of text and context.

    A history is sent again with every request: it is looked at once. A table of fixed size, in which a newer text takes
    the place of an older one. words: a short word that is the name of a member, or one of the API's own (`type`, `id`),
    is known without a look. 64 bits of SipHash-1-3 under a key drawn at start: nobody can make two that are taken for
    each other.
    """

    cdef uint64_t *table
    cdef uint64_t mask
    cdef readonly Py_ssize_t hits
    cdef readonly bint words

    def __cinit__(self, int bits=16, bint words=True):
        self.words = words
        self.mask = (<uint64_t>1 << bits) - 1
        self.table = <uint64_t *>calloc(self.mask + 1, sizeof(uint64_t))
        if self.table == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.table)

    cdef inline bint has(self, uint64_t digest) noexcept:
        if self.table[digest & self.mask] == digest:
            self.hits += 1
            return True
        return False

    cdef inline void add(self, uint64_t digest) noexcept:
        self.table[digest & self.mask] = digest


cdef class Gathered:
    """The pieces of one text."""

    cdef Span *spans
    cdef Py_ssize_t count, room
    cdef int64_t key0, key1         # the name that the first one stands under

    def __cinit__(self):
        self.spans, self.key1 = NULL, -1

    def __dealloc__(self):
        free(self.spans)

    cdef int add(self, int64_t start, int64_t end, bint escaped, bint joint) except -1:
        if self.count == self.room:
            self.room = self.room * 2 or 4
            grown = <Span *>realloc(self.spans, self.room * sizeof(Span))
            if grown == NULL:
                raise MemoryError
            self.spans = grown
        self.spans[self.count].start, self.spans[self.count].end = start, end
        self.spans[self.count].escaped, self.spans[self.count].joint = escaped, joint and self.count > 0
        self.count += 1
        return 0


def json_edits(bytes body, look, Known known, look_last=None):
    """Edits of JSON values, one or several after another; None where it is none. What is cut at its end is taken.

    look_last: instead of look, for a text that the bytes end in.
    """
    cdef Walk walk = Walk.__new__(Walk)
    walk.begin(body, look, look_last, known)
    return walk.values()


def event_edits(bytes body, look, Known known, look_last=None, bint cut=False):
    """Edits of server-sent events (WHATWG HTML section 9.2), whatever is in them.

    look_last: as for json_edits; cut: there should have been more events, so the last text is one that was cut.
    """
    cdef Walk walk = Walk.__new__(Walk)
    walk.begin(body, look, look_last, known)
    walk.torn = cut
    return walk.events()


cdef class Walk:
    """One way through a body."""

    cdef bytes body
    cdef const char *p
    cdef int64_t n, at, limit       # limit: the end of the line in events, else n
    cdef bint lines, returns        # returns: there are carriage returns
    cdef bint torn                  # the bytes end in a text
    cdef object look, look_last
    cdef Known known
    cdef list edits, aside          # aside: lines that are no data
    cdef dict gathered
    cdef Level *levels
    cdef Py_ssize_t depth, room, nodes_used, pieces_used
    cdef Node *nodes
    cdef Piece *pieces

    def __dealloc__(self):
        free(self.levels)
        free(self.nodes)
        free(self.pieces)

    cdef int begin(self, bytes body, look, look_last, Known known) except -1:
        self.body, self.p, self.n = body, PyBytes_AS_STRING(body), PyBytes_GET_SIZE(body)
        self.limit = self.n
        self.look, self.known = look, known
        self.look_last = look if look_last is None else look_last
        self.edits, self.aside, self.gathered = [], [], {}
        self.nodes = <Node *>malloc(NODES * sizeof(Node))
        self.pieces = <Piece *>malloc(PIECES * sizeof(Piece))
        if self.nodes == NULL or self.pieces == NULL:
            raise MemoryError
        if self.n >= 3 and memcmp(self.p, b"\xef\xbb\xbf", 3) == 0:
            self.at = 3
        return 0

    # --- values one after the other ---------------------------------------------------------------------------
    cdef list values(self):
        cdef int ended = FINE, c
        cdef bint any = False
        while ended == FINE:
            c = self.next()
            if c < 0:
                break
            if not any and c != c"{" and c != c"[" and c != c'"':
                return None
            any = True
            ended = self.value()
            if ended == NONE:
                return None
            self.resolve()
        return self.done() if any else None

    cdef list done(self):
        """All that was gathered is whole now."""
        cdef Gathered each
        cdef Text text
        cdef int64_t last = -1
        if self.torn:
            for each in self.gathered.values():
                last = max(last, each.spans[each.count - 1].end)
        for each in self.gathered.values():
            torn = each.spans[each.count - 1].end == last
            if each.count == 1:
                self.alone(each.spans[0].start, each.spans[0].end, each.spans[0].escaped, each.key0, each.key1, torn)
                continue
            text = text_of(self.p, each.spans, each.count, STRING)
            found = (self.look_last if torn else self.look)(text.text, self.name(each.key0, each.key1))
            if found:
                self.edits += text.back(found)
        self.edits.sort(key=_start)
        return self.edits

    # --- events -----------------------------------------------------------------------------------------------
    cdef list events(self):
        cdef int64_t end, value
        cdef uint64_t name = 0
        cdef Py_ssize_t before, beside
        cdef int ended
        self.lines = True
        self.returns = memchr(self.p, c"\r", self.n) != NULL
        while self.at < self.n:
            end = self.line_end(self.at)
            if end == self.at:
                name = 0
            elif self.is_data(self.at, end):
                value = self.value_at(self.at, end)
                before, beside = len(self.edits), len(self.aside)
                ended = self.event(value, end)
                if ended == NONE:
                    # what was found so far is found again
                    del self.edits[before:]
                    del self.aside[beside:]
                    self.pieces_used = self.nodes_used = 0
                    self.plain(name, value, end)
                continue
            else:
                if end - self.at > 6 and memcmp(self.p + self.at, b"event:", 6) == 0:
                    name = siphash(self.p + self.at, end - self.at, K0, K1)
                self.aside.append((self.at, end))
            self.at = self.behind(end)
        for start, stop in self.aside:
            self.alone(start, stop, False, 0, -1)
        return self.done()

    cdef int event(self, int64_t value, int64_t end) except -1:
        """An event whose data is JSON, to its end."""
        cdef int ended
        self.at, self.limit = value, end
        while self.at < end and (self.p[self.at] == c" " or self.p[self.at] == c"\t"):
            self.at += 1
        if self.at == end or (self.p[self.at] != c"{" and self.p[self.at] != c"["):
            return NONE
        ended = self.value()
        if ended == FINE and self.next() >= 0:
            return NONE
        if ended == CUT and self.at < self.n:
            return NONE
        if ended != NONE:
            self.resolve()
        return ended

    cdef int plain(self, uint64_t name, int64_t value, int64_t end) except -1:
        """An event whose data is no JSON: its lines are one text, and go on that of the events of its name before."""
        cdef Gathered to
        cdef bint joint = False
        self.at = self.behind(end)
        if named(self.p + value, end - value, "[DONE]", 6):
            return 0
        to = self.gathered.get(name)
        if to is None:
            to = self.gathered[name] = Gathered()
        to.add(value, end, False, False)
        while self.at < self.n:
            end = self.line_end(self.at)
            if end == self.at:
                break
            if self.is_data(self.at, end):
                to.add(self.value_at(self.at, end), end, False, True)
            else:
                self.aside.append((self.at, end))
            self.at = self.behind(end)
        return 0

    cdef inline bint is_data(self, int64_t at, int64_t end) noexcept:
        return end - at >= 5 and memcmp(self.p + at, b"data:", 5) == 0

    cdef inline int64_t value_at(self, int64_t at, int64_t end) noexcept:
        """Where the value of a line of data begins: behind the colon, and behind one blank."""
        return at + 6 if end - at > 5 and self.p[at + 5] == c" " else at + 5

    cdef int64_t line_end(self, int64_t at) noexcept:
        """Lines end with LF, CR or CRLF."""
        cdef const char *found = <const char *>memchr(self.p + at, c"\n", self.n - at)
        cdef int64_t end = found - self.p if found != NULL else self.n
        if self.returns:
            found = <const char *>memchr(self.p + at, c"\r", end - at)
            if found != NULL:
                end = found - self.p
        return end

    cdef inline int64_t behind(self, int64_t end) noexcept:
        """Behind the line end at `end`."""
        if end + 1 < self.n and self.p[end] == c"\r" and self.p[end + 1] == c"\n":
            return end + 2
        return end + 1 if end < self.n else self.n

    cdef bint go_on(self) except -1:
        """From the end of a line to the next line of data of the same event; False where there is none."""
        cdef int64_t end
        self.at = self.behind(self.limit)
        while self.at < self.n:
            end = self.line_end(self.at)
            if end == self.at:
                break
            self.limit = end
            if self.is_data(self.at, end):
                self.at = self.value_at(self.at, end)
                return True
            self.aside.append((self.at, end))
            self.at = self.behind(end)
        self.limit = self.at
        return False

    # --- one value --------------------------------------------------------------------------------------------
    cdef int next(self) except -2:
        """The next character that is no blank, as a number; -1 at the end."""
        cdef char c
        while True:
            while self.at < self.limit:
                c = self.p[self.at]
                if c != c" " and c != c"\n" and c != c"\r" and c != c"\t":
                    return <uint8_t>c
                self.at += 1
            if not self.lines or self.limit >= self.n or not self.go_on():
                return -1

    cdef int value(self) except -1:
        """One JSON value from `at` on; how it ended."""
        cdef int c, state = VALUE, escaped
        cdef int64_t start
        cdef Level *level
        self.depth = self.nodes_used = self.pieces_used = 0
        while True:
            c = self.next()
            if c < 0:
                return CUT
            level = &self.levels[self.depth - 1] if self.depth else NULL
            if state == VALUE or state == FIRST_ITEM:
                if c == c"{" or c == c"[":
                    self.at += 1
                    if self.depth >= DEPTH:
                        return NONE
                    self.open(c == c"{")
                    state = FIRST_NAME if c == c"{" else FIRST_ITEM
                    continue
                if c == c'"':
                    start, escaped = self.at + 1, 0
                    self.at = lr_quote(self.p, start, self.limit, &escaped)
                    if self.at == self.limit == self.n:
                        self.torn = True
                    self.string(start, self.at, escaped, self.at == self.n)
                    if self.at == self.limit:
                        return CUT if self.limit == self.n else NONE
                    self.at += 1
                elif c == c"]" and state == FIRST_ITEM:
                    self.at += 1
                    self.depth -= 1
                elif not self.bare():
                    return NONE
            elif state == AFTER:
                self.at += 1
                if c == c",":
                    level.place += 1
                    state = NAME if level.object else VALUE
                    continue
                if c != (c"}" if level.object else c"]"):
                    return NONE
                self.depth -= 1
            elif state == COLON:
                if c != c":":
                    return NONE
                self.at += 1
                state = VALUE
                continue
            elif c == c'"':
                start, escaped = self.at + 1, 0
                self.at = lr_quote(self.p, start, self.limit, &escaped)
                level.key0, level.key1, level.hash = start, self.at, 0
                if escaped:
                    self.odd(level)
                else:
                    level.word = word_of(self.p + start, self.at - start)
                if not (self.known.words and word_like(self.p + start, self.at - start)):
                    self.alone(start, self.at, escaped, 0, -1, self.at == self.n)
                if self.at == self.limit:
                    return CUT if self.limit == self.n else NONE
                self.at += 1
                state = COLON
                continue
            elif c == c"}" and state == FIRST_NAME:
                self.at += 1
                self.depth -= 1
            else:
                return NONE
            if self.depth == 0:
                return FINE
            state = AFTER

    cdef int open(self, bint object) except -1:
        cdef Level *above
        cdef Level *level
        cdef Node *node
        if self.depth == self.room:
            self.room = self.room * 2 or 32
            grown = <Level *>realloc(self.levels, self.room * sizeof(Level))
            if grown == NULL:
                raise MemoryError
            self.levels = grown
        level = &self.levels[self.depth]
        above = &self.levels[self.depth - 1] if self.depth else NULL
        level.object, level.place, level.flags, level.node = object, 0, 0, -1
        level.key0, level.key1, level.hash, level.word = 0, -1, 0, PLAIN
        if above != NULL:
            level.flags = above.flags
            level.key0, level.key1, level.hash, level.word = above.key0, above.key1, above.hash, above.word
            if above.word == DELTA:
                level.flags |= IN_DELTA
            elif above.word == CHOICES:
                level.flags |= IN_CHOICES
        if self.nodes_used < NODES and (above == NULL or above.node >= 0):
            level.node = self.nodes_used
            node = &self.nodes[self.nodes_used]
            self.nodes_used += 1
            node.ids = node.item = node.type = node.key = node.place = 0
            node.above = -1
            if above != NULL:
                node.above = above.node
                node.key = self.key_of(above)
                node.place = 0 if above.object else above.place + 1
        self.depth += 1
        return 0

    cdef inline uint64_t key_of(self, Level *level) noexcept:
        if level.word == DELTA:
            return DELTA
        if level.key1 < 0 or level.hash:
            return level.hash
        return siphash(self.p + level.key0, level.key1 - level.key0, K0, K1)

    cdef int odd(self, Level *level) except -1:
        """A name with escapes in it is taken for what it says."""
        cdef bytes text = self.name(level.key0, level.key1)
        level.word = word_of(PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))
        level.hash = siphash(PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text), K0, K1)
        return 0

    cdef uint64_t said(self, int64_t start, int64_t end, bint escaped) except? 0:
        """A digest of what a string says."""
        cdef bytes text
        if not escaped:
            return siphash(self.p + start, end - start, K0, K1)
        text = self.plain_of(start, end).text
        return siphash(PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text), K0, K1)

    cdef Text plain_of(self, int64_t start, int64_t end):
        cdef Span span
        span.start, span.end, span.escaped, span.joint = start, end, True, False
        return text_of(self.p, &span, 1, STRING)

    cdef bint bare(self) except -1:
        """A number, or one of the words; False where it is none."""
        cdef int64_t start = self.at
        cdef char c
        cdef Level *level
        cdef bint digits = True
        while self.at < self.limit:
            c = self.p[self.at]
            if c"0" <= c <= c"9" or c == c"." or c == c"-" or c == c"+" or c == c"e" or c == c"E":
                self.at += 1
            elif c"a" <= c <= c"z" or c"A" <= c <= c"Z":
                digits = False
                self.at += 1
            else:
                break
        if self.at == start:
            return False
        if not digits:
            return self.word(start)
        level = &self.levels[self.depth - 1] if self.depth else NULL
        if level != NULL and level.word == INDEX and level.object and level.node >= 0:
            self.nodes[level.node].ids += mixed(siphash(self.p + start, self.at - start, K0, K1), self.key_of(level))
        if self.at - start >= NUMBER:
            self.number(start, level)
        return True

    cdef bint word(self, int64_t start) noexcept:
        cdef const char *p = self.p + start
        cdef int64_t n = self.at - start
        if self.at == self.n and self.depth:
            # the bytes may end in it
            return (begins(p, n, "true", 4) or begins(p, n, "false", 5) or begins(p, n, "null", 4)
                    or begins(p, n, "NaN", 3) or begins(p, n, "Infinity", 8) or begins(p, n, "-Infinity", 9))
        return (named(p, n, "true", 4) or named(p, n, "false", 5) or named(p, n, "null", 4) or named(p, n, "NaN", 3)
                or named(p, n, "Infinity", 8) or named(p, n, "-Infinity", 9))

    cdef int number(self, int64_t start, Level *level) except -1:
        """A number that is something else than a number becomes a string."""
        cdef bytes text, new
        cdef int64_t key0 = 0, key1 = -1
        cdef uint64_t digest
        if level != NULL:
            key0, key1 = level.key0, level.key1
        digest = self.digest(start, self.at, key0, key1)
        if self.known.has(digest):
            return 0
        text = self.p[start:self.at]
        found = self.look(text, self.name(key0, key1))
        if not found:
            self.known.add(digest)
            return 0
        new = b'"' + apply(text, found) + b'"'
        self.edits.append((start, self.at, new, tuple([each for edit in found for each in edit[3]])))
        return 0

    cdef int string(self, int64_t start, int64_t end, bint escaped, bint torn) except -1:
        cdef Level *level
        cdef Piece *piece
        cdef bint own
        if self.depth == 0:
            return self.alone(start, end, escaped, 0, -1, torn)
        level = &self.levels[self.depth - 1]
        if level.object and level.node >= 0:
            if level.word == INDEX:
                self.nodes[level.node].ids += mixed(self.said(start, end, escaped), self.key_of(level))
            elif level.word == ITEM:
                self.nodes[level.node].item = self.said(start, end, escaped)
            elif level.word == TYPE:
                self.nodes[level.node].type = self.said(start, end, escaped)
            elif self.pieces_used < PIECES:
                own = level.word == DELTA
                if own or (level.flags & IN_DELTA and level.word != SCALAR) or (
                    level.word == TEXTUAL and (level.flags & IN_CHOICES or self.depth == 1)
                ):
                    if end > start:
                        piece = &self.pieces[self.pieces_used]
                        self.pieces_used += 1
                        piece.start, piece.end, piece.escaped = start, end, escaped
                        piece.node, piece.key, piece.alone = level.node, self.key_of(level), own
                        piece.key0, piece.key1 = level.key0, level.key1
                    return 0
        if level.word >= SCALAR and self.known.words and word_like(self.p + start, end - start):
            return 0
        return self.alone(start, end, escaped, level.key0, level.key1, torn)

    # --- texts ------------------------------------------------------------------------------------------------
    cdef inline uint64_t digest(self, int64_t start, int64_t end, int64_t key0, int64_t key1) noexcept:
        cdef uint64_t made = siphash(self.p + start, end - start, K0, K1)
        if key1 >= key0:
            made = mixed(made, siphash(self.p + key0, key1 - key0, K1, K0))
        return made | 1         # 0 is an empty place of the table

    cdef bytes name(self, int64_t key0, int64_t key1):
        if key1 < key0:
            return b""
        if memchr(self.p + key0, c"\\", key1 - key0) != NULL:
            return self.plain_of(key0, key1).text
        return PyBytes_FromStringAndSize(self.p + key0, key1 - key0)

    cdef int alone(
        self, int64_t start, int64_t end, bint escaped, int64_t key0, int64_t key1, bint torn=False
    ) except -1:
        """A text in one piece. torn: the bytes end in it."""
        cdef uint64_t digest
        cdef Text text
        if end == start:
            return 0
        digest = self.digest(start, end, key0, key1)
        if not torn and self.known.has(digest):
            return 0
        look = self.look_last if torn else self.look
        if escaped:
            text = self.plain_of(start, end)
            found = look(text.text, self.name(key0, key1))
            if found:
                self.edits += text.back(found)
        else:
            found = look(PyBytes_FromStringAndSize(self.p + start, end - start), self.name(key0, key1))
            for low, high, replacement, what in found:
                self.edits.append((start + low, start + high, replacement, what))
        if not found and not torn:
            self.known.add(digest)
        return 0

    cdef int resolve(self) except -1:
        """The pieces of an event to the texts that they belong to: now the numbers of all objects are known."""
        cdef Py_ssize_t i
        cdef Piece *piece
        cdef Node *node
        cdef int32_t above
        cdef uint64_t place
        cdef Gathered to
        for i in range(self.pieces_used):
            piece = &self.pieces[i]
            above = piece.node
            place = mixed(piece.key, 1)
            if piece.alone:
                # `delta` itself: of what, only the event's type says
                place = mixed(place, self.nodes[above].type)
            while above >= 0:
                node = &self.nodes[above]
                place = mixed(mixed(place, node.key), node.ids if node.ids else node.item if node.item else node.place)
                above = node.above
            to = self.gathered.get(place)
            if to is None:
                to = self.gathered[place] = Gathered()
                to.key0, to.key1 = piece.key0, piece.key1
            to.add(piece.start, piece.end, piece.escaped, False)
        self.pieces_used = 0
        return 0


def _start(edit):
    return edit[0]


def apply(bytes raw, list edits):
    """The bytes with the edits done; they are in order and do not overlap."""
    cdef list out = []
    cdef Py_ssize_t at = 0
    for start, end, replacement, _ in edits:
        out.append(raw[at:start])
        out.append(replacement)
        at = end
    out.append(raw[at:])
    return b"".join(out)
