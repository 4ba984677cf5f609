"""A text out of the bytes it is written in, and the way back: which of the bytes stand for which part of the text.

Imports nothing of ours. A text may be written in escapes (of JSON, of addresses), and in pieces that lie apart (the
deltas of a streamed answer). Whoever wants to change a part of the text says so in offsets of the text; `back` turns
that into changes of the raw bytes, all others of which stay as they are.

An edit is (start, end, replacement, found): bytes `start` to `end` become `replacement`; `found` says what was there and
is carried along. Replacements are ASCII.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memchr, memcpy

from urllib.parse import quote

Edit = tuple                # for annotations: (start, end, replacement, found)


cdef class Text:
    """See the module. text: what was written, UTF-8."""

    def __cinit__(self):
        self.runs = NULL

    def __dealloc__(self):
        free(self.runs)

    def __repr__(self):
        return f"<Text {self.size} bytes in {self.count} runs>"

    cdef int add(self, int64_t at, int64_t start, int64_t end) except -1:
        """The text from `at` on stands for these raw bytes; one byte for one as long as both grow alike."""
        cdef Run *last
        if self.count:
            last = &self.runs[self.count - 1]
            # both are runs of plain bytes, and one goes on where the other ends (escapes are longer than their text)
            if last.end == start and at - last.at == last.end - last.start and self.size - at == end - start:
                last.end = end
                return 0
        if self.count == self.room:
            self.room = self.room * 2 or 8
            grown = <Run *>realloc(self.runs, self.room * sizeof(Run))
            if grown == NULL:
                raise MemoryError
            self.runs = grown
        self.runs[self.count].at = at
        self.runs[self.count].start = start
        self.runs[self.count].end = end
        self.count += 1
        return 0

    def back(self, list edits):
        """The edits of the text as edits of the raw bytes, in order. What lies in pieces is replaced in the first one,
        and taken out of the others."""
        cdef list out = []
        cdef int64_t start, end, low, high, a, b, behind
        cdef Py_ssize_t i
        cdef Run *run
        for edit in edits:
            start, end = edit[0], edit[1]
            replacement, found = self.written(edit[2]), edit[3]
            low = high = -1
            i = self.run_of(start)
            while i < self.count and self.runs[i].at < end:
                run = &self.runs[i]
                behind = self.runs[i + 1].at if i + 1 < self.count else self.size
                a, b = run.start, run.end
                if b - a == behind - run.at:
                    if start > run.at:
                        a += start - run.at
                    if end < behind:
                        b -= behind - end
                if a != high:
                    if low >= 0:
                        out.append((low, high, replacement, found))
                        replacement, found = b"", ()
                    low = a
                high = b
                i += 1
            if low >= 0:
                out.append((low, high, replacement, found))
        return out

    cdef object written(self, bytes replacement):
        """The replacement as it is written in this style."""
        if self.style == FORM:
            return quote(replacement, safe="[]():@*,/#").replace("%20", "+").replace("#", "%23").encode()
        # of a text that only a second reading makes readable, quotes are escaped too
        if b'"' in replacement or b"\\" in replacement:
            return replacement.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
        return replacement

    cdef Py_ssize_t run_of(self, int64_t at) noexcept:
        """The run that has this place of the text."""
        cdef Py_ssize_t low = 0, high = self.count, middle
        while low + 1 < high:
            middle = (low + high) // 2
            if self.runs[middle].at <= at:
                low = middle
            else:
                high = middle
        return low


cdef Text text_of(const char *p, const Span *spans, Py_ssize_t count, int style):
    """One text of these spans of the raw bytes at p, with escapes undone where a span is said to have some."""
    cdef Text made = Text.__new__(Text)
    cdef int64_t most = 0
    cdef Py_ssize_t i
    cdef char *out
    for i in range(count):
        most += spans[i].end - spans[i].start + 1
    out = <char *>malloc(most + 1)      # no escape is shorter than what it stands for
    if out == NULL:
        raise MemoryError
    made.style = style
    try:
        for i in range(count):
            if spans[i].joint:
                out[made.size] = c"\n"
                made.size += 1
                made.add(made.size - 1, spans[i - 1].end, spans[i].start)
            if spans[i].escaped:
                undo(made, p, spans[i].start, spans[i].end, out)
            else:
                copy(made, p, spans[i].start, spans[i].end, out)
        made.text = PyBytes_FromStringAndSize(out, made.size)
    finally:
        free(out)
    return made


cdef int copy(Text made, const char *p, int64_t start, int64_t end, char *out) except -1:
    if end > start:
        memcpy(out + made.size, p + start, end - start)
        made.size += end - start
        made.add(made.size - (end - start), start, end)
    return 0


cdef int undo(Text made, const char *p, int64_t start, int64_t end, char *out) except -1:
    """The escapes of one span. What looks like one and is none stays as it is."""
    cdef int64_t i = start, from_ = start, behind, size
    cdef int style = made.style
    while i < end:
        if style == STRING:
            i = find(p, c"\\", i, end)
            if i == end:
                break
        elif p[i] == c"+" and style == FORM:
            copy(made, p, from_, i, out)
            out[made.size] = c" "
            made.size += 1
            made.add(made.size - 1, i, i + 1)
            i += 1
            from_ = i
            continue
        elif p[i] != c"%" and (p[i] != c"\\" or style == FORM):
            i += 1
            continue
        size = 0
        if p[i] == c"%":
            behind = percent(p, i, end, style == FORM, out + made.size + (i - from_), &size)
        else:
            behind = backslash(p, i, end, out + made.size + (i - from_), &size)
        if not size:
            i = behind          # none of ours
            continue
        if i > from_:
            memcpy(out + made.size, p + from_, i - from_)
            made.size += i - from_
            made.add(made.size - (i - from_), from_, i)
        made.size += size
        made.add(made.size - size, i, behind)
        i = from_ = behind
    copy(made, p, from_, end, out)
    return 0


cdef inline int64_t find(const char *p, char c, int64_t start, int64_t end) noexcept nogil:
    cdef const char *found = <const char *>memchr(p + start, c, end - start)
    return found - p if found != NULL else end


cdef int64_t backslash(const char *p, int64_t at, int64_t end, char *out, int64_t *size) noexcept nogil:
    """What the escape at `at` stands for, into out; behind it. size 0: it is none."""
    cdef int32_t code, low
    cdef char c
    if at + 1 >= end:
        return end
    c = p[at + 1]
    if c == c"u":
        code = unit(p, at + 2, end)
        if code < 0:
            return at + 2
        if 0xD800 <= code < 0xDC00 and at + 7 < end and p[at + 6] == c"\\" and p[at + 7] == c"u":
            low = unit(p, at + 8, end)
            if 0xDC00 <= low < 0xE000:
                size[0] = utf8(0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00), out)
                return at + 12
        # half a pair is no character
        size[0] = utf8(0xFFFD if 0xD800 <= code < 0xE000 else code, out)
        return at + 6
    if c == c"n":
        c = c"\n"
    elif c == c"t":
        c = c"\t"
    elif c == c"r":
        c = c"\r"
    elif c == c"b":
        c = c"\b"
    elif c == c"f":
        c = c"\f"
    elif c != c'"' and c != c"\\" and c != c"/":
        return at + 2 if (c & 0x80) == 0 else at + 1
    out[0] = c
    size[0] = 1
    return at + 2


cdef int64_t percent(const char *p, int64_t at, int64_t end, bint any, char *out, int64_t *size) noexcept nogil:
    """As backslash(), for %40 and for characters of several bytes. any: for control characters, too."""
    cdef int first = octet(p, at, end), next_, i, count
    if first < 0:
        return at + 1
    count = 1 if first < 0x80 else 2 if 0xC2 <= first < 0xE0 else 3 if 0xE0 <= first < 0xF0 else 4 if 0xF0 <= first < 0xF5 else 0
    if not count or (not any and (first < 0x20 and first != 9 and first != 10 and first != 13 or first == 0x7F)):
        return at + 3
    out[0] = <char>first
    for i in range(1, count):
        next_ = octet(p, at + 3 * i, end)
        if next_ < 0x80 or next_ >= 0xC0:
            return at + 3
        if i == 1 and ((first == 0xE0 and next_ < 0xA0) or (first == 0xED and next_ >= 0xA0) or
                       (first == 0xF0 and next_ < 0x90) or (first == 0xF4 and next_ >= 0x90)):
            return at + 3
        out[i] = <char>next_
    size[0] = count
    return at + 3 * count


cdef inline int digit(char c) noexcept nogil:
    if c"0" <= c <= c"9":
        return c - c"0"
    if c"a" <= c <= c"f":
        return c - c"a" + 10
    if c"A" <= c <= c"F":
        return c - c"A" + 10
    return -1


cdef inline int octet(const char *p, int64_t at, int64_t end) noexcept nogil:
    cdef int high, low
    if at + 2 >= end or p[at] != c"%":
        return -1
    high, low = digit(p[at + 1]), digit(p[at + 2])
    return high * 16 + low if high >= 0 and low >= 0 else -1


cdef inline int32_t unit(const char *p, int64_t at, int64_t end) noexcept nogil:
    """Four hexadecimal digits, or -1."""
    cdef int32_t code = 0
    cdef int i, each
    if at + 4 > end:
        return -1
    for i in range(4):
        each = digit(p[at + i])
        if each < 0:
            return -1
        code = code * 16 + each
    return code


cdef inline int64_t utf8(int32_t code, char *out) noexcept nogil:
    if code < 0x80:
        out[0] = <char>code
        return 1
    if code < 0x800:
        out[0] = <char>(0xC0 | (code >> 6))
        out[1] = <char>(0x80 | (code & 0x3F))
        return 2
    if code < 0x10000:
        out[0] = <char>(0xE0 | (code >> 12))
        out[1] = <char>(0x80 | ((code >> 6) & 0x3F))
        out[2] = <char>(0x80 | (code & 0x3F))
        return 3
    out[0] = <char>(0xF0 | (code >> 18))
    out[1] = <char>(0x80 | ((code >> 12) & 0x3F))
    out[2] = <char>(0x80 | ((code >> 6) & 0x3F))
    out[3] = <char>(0x80 | (code & 0x3F))
    return 4


def _one(bytes raw, Py_ssize_t start, Py_ssize_t end, int style):
    cdef Span span
    if not 0 <= start <= end <= PyBytes_GET_SIZE(raw):
        raise ValueError("the span is outside of the bytes")
    span.start, span.end, span.escaped, span.joint = start, end, True, False
    return text_of(PyBytes_AS_STRING(raw), &span, 1, style)


def string(bytes raw, Py_ssize_t start, Py_ssize_t end):
    """The inside of a JSON string."""
    return _one(raw, start, end, STRING)


def form(bytes raw, Py_ssize_t start, Py_ssize_t end):
    """A name or a value of a query or of a form body."""
    return _one(raw, start, end, FORM)


def loose(bytes raw):
    """The text with escapes of any kind undone once; None where it has none."""
    cdef Text made
    if b"\\" not in raw and b"%" not in raw:
        return None
    made = _one(raw, 0, len(raw), LOOSE)
    return None if made.size == len(raw) else made


def inside(bytes raw, Py_ssize_t at):
    """(start, end) of the backslash escape that `at` lies inside of (behind its first byte); (at, at) where in none.

    Of a text whose escapes are undone in a second reading: what a first reading took for letters may be part of them.
    """
    cdef const char *p = PyBytes_AS_STRING(raw)
    cdef Py_ssize_t first = at, size = PyBytes_GET_SIZE(raw), slash, begin
    cdef int64_t behind, length
    cdef char spare[8]
    # an escape is at most 12 bytes long; which backslashes begin one depends on how many stand in a row
    for slash in range(max(at - 12, 0), at):
        if p[slash] != c"\\":
            continue
        begin = slash
        while begin > 0 and p[begin - 1] == c"\\":
            begin -= 1
        if (slash - begin) % 2:
            continue            # the second of a pair
        length = 0
        behind = backslash(p, slash, size, spare, &length)
        if length and slash < at < behind:
            return slash, behind
    return first, first
