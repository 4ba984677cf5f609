"""Where a JSON body can be cut so that what is sent again is found again: elements and pieces, with a mark for each.

Imports nothing of ours. Looks at structure only: it validates nothing, builds no value, and never fails on what is not
JSON (then the whole body is one piece).

An element is an item of an array at the top level (`messages[3]`, `tools[0]`), or a top-level value that is none. A
piece is a run of bytes: the pieces of a body lie end to end and are all of it. Pieces end where elements end, and around
long strings inside an element, since clients write a message anew around the same text (clients.md section 4: cache
marks move, a text becomes a list of one text).

A mark is SipHash-1-3 of a piece under a key drawn at the start of this process: equal marks mean equal bytes, also
where somebody would like them not to, and a mark means nothing in another process.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

import os

cdef enum:
    ELEMENTS_MAX = 50_000       # what is behind them is one piece: no conversation has so many, and each costs memory

cdef uint64_t K0, K1
K0, K1 = int.from_bytes(os.urandom(8), "little"), int.from_bytes(os.urandom(8), "little")

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    #define ROTL(x, b) (((x) << (b)) | ((x) >> (64 - (b))))
    #define ROUND v0 += v1; v1 = ROTL(v1, 13); v1 ^= v0; v0 = ROTL(v0, 32); v2 += v3; v3 = ROTL(v3, 16); v3 ^= v2; \
                  v0 += v3; v3 = ROTL(v3, 21); v3 ^= v0; v2 += v1; v1 = ROTL(v1, 17); v1 ^= v2; v2 = ROTL(v2, 32);
    static uint64_t lr_siphash(const char *p, size_t n, uint64_t k0, uint64_t k1) {
        uint64_t v0 = k0 ^ 0x736f6d6570736575ull, v1 = k1 ^ 0x646f72616e646f6dull,
                 v2 = k0 ^ 0x6c7967656e657261ull, v3 = k1 ^ 0x7465646279746573ull, m, b = (uint64_t)n << 56;
        size_t left = n & 7; const char *end = p + (n - left);
        for (; p != end; p += 8) { memcpy(&m, p, 8); v3 ^= m; ROUND v0 ^= m; }
        m = 0; memcpy(&m, p, left);         /* on a big-endian machine another function, and as good a one */
        b |= m; v3 ^= b; ROUND v0 ^= b; v2 ^= 0xff; ROUND ROUND ROUND
        return v0 ^ v1 ^ v2 ^ v3;
    }
    #if defined(__SSE2__)
    #include <emmintrin.h>
    #endif
    /* behind the string whose opening quote is before `at`, or -1 where it does not end */
    static int64_t lr_string_end(const char *p, int64_t at, int64_t n) {
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
            if (at >= n) return -1;
            if (p[at] == '"') return at + 1;
            at += 2;
        }
    }
    """
    uint64_t lr_siphash(const char *p, size_t n, uint64_t k0, uint64_t k1) noexcept nogil
    int64_t lr_string_end(const char *p, int64_t at, int64_t n) noexcept nogil


cdef uint64_t siphash(const char *p, size_t n, uint64_t k0, uint64_t k1) noexcept nogil:
    """SipHash-1-3 for the other compiled modules."""
    return lr_siphash(p, n, k0, k1)


cdef class Cuts:
    """A body, cut.

    ends: the offset behind each piece. marks: one signed 64-bit number a piece. elements: (key, start, end, first piece,
    piece behind the last) of each element, in order. whole: the body was no JSON object, there is but one piece.
    """

    cdef readonly list ends
    cdef readonly list marks
    cdef readonly list elements
    cdef readonly bint whole

    def __repr__(self):
        return f"<Cuts {len(self.ends)} pieces, {len(self.elements)} elements>"


def mark(bytes piece):
    """The mark of a piece."""
    return <int64_t>lr_siphash(PyBytes_AS_STRING(piece), PyBytes_GET_SIZE(piece), K0, K1)


def cut(bytes body, Py_ssize_t long_string=512):
    """Cut a body; strings of `long_string` bytes and more become pieces of their own."""
    cdef Cuts cuts = Cuts.__new__(Cuts)
    cdef Cutter cutter = Cutter.__new__(Cutter)
    cdef Py_ssize_t n = PyBytes_GET_SIZE(body)
    cuts.ends, cuts.marks, cuts.elements = [], [], []
    cutter.cuts, cutter.p, cutter.n, cutter.long_string = cuts, PyBytes_AS_STRING(body), n, long_string
    if not cutter.run():
        cuts.ends, cuts.marks, cuts.elements, cuts.whole = [], [], [], True
        cutter.from_ = 0
    if cutter.from_ < n:
        cutter.piece(n)
    return cuts


cdef class Cutter:
    cdef Cuts cuts
    cdef const char *p
    cdef int64_t n, at, from_
    cdef Py_ssize_t long_string

    cdef void piece(self, int64_t end) except *:
        """The bytes up to `end` that belong to no piece yet are one."""
        if end > self.from_:
            self.cuts.ends.append(end)
            self.cuts.marks.append(<int64_t>lr_siphash(self.p + self.from_, end - self.from_, K0, K1))
            self.from_ = end

    cdef void blanks(self) noexcept:
        while self.at < self.n and (self.p[self.at] == c" " or self.p[self.at] == c"\n" or self.p[self.at] == c"\r" or self.p[self.at] == c"\t"):
            self.at += 1

    cdef char next(self) noexcept:
        """The next character that is no blank; 0 at the end."""
        self.blanks()
        return self.p[self.at] if self.at < self.n else 0

    cdef bint run(self) except -1:
        cdef int64_t start
        cdef str key
        if self.next() != c"{":
            return False
        self.at += 1
        while True:
            if self.next() == c"}":
                return True
            if self.next() == c",":
                self.at += 1
                self.blanks()
            if self.at >= self.n or self.p[self.at] != c'"':
                return False
            start = self.at + 1
            self.at = lr_string_end(self.p, start, self.n)
            if self.at < 0:
                return False
            key = self.p[start:self.at - 1].decode("utf-8", "replace")
            if self.next() != c":":
                return False
            self.at += 1
            if self.next() == c"[":
                if not self.array(key):
                    return False
            else:
                start = self.at
                if not self.element(key, start, False):
                    return False
            if self.full():
                return True

    cdef bint full(self) noexcept:
        return len(self.cuts.elements) >= ELEMENTS_MAX

    cdef bint array(self, str key) except -1:
        cdef int64_t start
        self.at += 1
        while True:
            if self.next() == c"]":
                self.at += 1
                return True
            # what stands before the first element belongs to what came before, a comma to the element behind it: so an
            # array that grew at its end has the same pieces as before, and some more
            start = self.at
            if self.p[self.at] == c",":
                self.at += 1
                self.blanks()
            else:
                self.piece(start)
            if self.at >= self.n or not self.element(key, self.at, True):
                return False
            if self.full():
                return True

    cdef bint element(self, str key, int64_t start, bint alone) except -1:
        """One value. `alone`: it gets pieces of its own however short it is."""
        cdef Py_ssize_t first = len(self.cuts.ends)
        if not self.value():
            return False
        # also where it has pieces: they are all of it then, and who has seen them has seen it
        if alone or len(self.cuts.ends) > first:
            self.piece(self.at)
        self.cuts.elements.append((key, start, self.at, first, len(self.cuts.ends)))
        return True

    cdef bint value(self) except -1:
        """Behind the value at `at`, with pieces for its long strings."""
        cdef int64_t depth = 0, start
        cdef char c
        while True:
            c = self.next()
            if c == c'"':
                start = self.at + 1
                self.at = lr_string_end(self.p, start, self.n)
                if self.at < 0:
                    return False
                if self.at - 1 - start >= self.long_string:
                    self.piece(start)
                    self.piece(self.at - 1)
            elif c == c"{" or c == c"[":
                depth += 1
                self.at += 1
            elif c == c"}" or c == c"]":
                depth -= 1
                self.at += 1
                if depth < 0:
                    return False
            elif c == c"," or c == c":":
                if depth == 0:
                    return False
                self.at += 1
                continue
            elif c == 0:
                return False
            else:
                while self.at < self.n and self.p[self.at] not in b',:]} \t\r\n"{[':
                    self.at += 1
            if depth == 0:
                return True


def runs(list marks, list base, dict places):
    """How a sequence of pieces is made of those of another: a flat list of (start, count) pairs, start -1 where the
    next `count` pieces are not in the other one.

    marks, base: marks of both; places: mark -> a place in base.
    """
    cdef Py_ssize_t i = 0, n = len(marks), m = len(base), j, begin
    cdef list out = []
    while i < n:
        found = places.get(marks[i])
        if found is None:
            begin = i
            while i < n and marks[i] not in places:
                i += 1
            out.append(-1)
            out.append(i - begin)
            continue
        j = found
        begin = i
        while i < n and j < m and marks[i] == base[j]:
            i += 1
            j += 1
        if i == begin:              # a place that is none: as good as unknown
            i += 1
            out.append(-1)
            out.append(1)
            continue
        out.append(<Py_ssize_t>found)
        out.append(i - begin)
    return out
