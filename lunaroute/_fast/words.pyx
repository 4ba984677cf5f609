"""The words of texts, each once: what a search index that keeps no places has to be told. Imports nothing of ours.

A word is what the index's tokenizer (unicode61) can make words of: letters and digits of ASCII and whatever is not
ASCII, in a run. Of letters beyond ASCII the tokenizer knows more, so their runs are left to it as they are. Capitals of
ASCII become small ones, as they do there. Text is said again and again (code above all): a third of it is left.

The same texts must always give the same words: the index counts them, and what is taken out of it again must be as many
(one too many, and it takes itself to be damaged). So nothing here may depend on chance, not the hash either: who writes
texts whose words all want the same place gets some of them told twice, and that is all.
"""

from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL

cdef enum:
    TRIES = 16              # places looked at for a word: then it is told once more

cdef char SMALL[256]        # the small letter of a byte that belongs to a word, 0 for the others


def _fill():
    for byte in range(256):
        sign = chr(byte)
        SMALL[byte] = <char>(ord(sign.lower()) if sign.isascii() and sign.isalnum() else byte if byte >= 0x80 else 0)


_fill()

cdef struct Word:
    uint32_t begin, size    # in what is told; size 0: free


def words_once(list texts):
    """The words of these texts with blanks between them, each of them once. Raises UnicodeEncodeError for half a
    surrogate pair."""
    cdef Py_ssize_t n, total = 0, slots = 64
    cdef const char *p
    cdef char *out
    cdef Word *seen
    cdef Py_ssize_t used = 0
    for text in texts:
        PyUnicode_AsUTF8AndSize(text, &n)
        total += n + 1
    if total >= 1 << 31:
        return "\n".join(texts)
    # words are six bytes with the blank behind them, about, and most come again: this table is never half full then
    while slots < total >> 3:
        slots <<= 1
    out = <char *>malloc(total + 1)
    seen = <Word *>calloc(slots, sizeof(Word))
    try:
        if out == NULL or seen == NULL:
            raise MemoryError()
        for text in texts:
            p = PyUnicode_AsUTF8AndSize(text, &n)
            used = tell(p, n, out, used, seen, slots - 1)
        return PyUnicode_DecodeUTF8(out, used, NULL)
    finally:
        free(out)
        free(seen)


cdef Py_ssize_t tell(const char *p, Py_ssize_t n, char *out, Py_ssize_t used, Word *seen, Py_ssize_t mask) noexcept nogil:
    cdef const char *end = p + n
    cdef Py_ssize_t at, begin
    cdef uint64_t made
    cdef char c
    cdef int tries
    while p < end:
        c = SMALL[<unsigned char>p[0]]
        if c == 0:
            p += 1
            continue
        begin = at = used
        made = 0x243F6A8885A308D3u
        while c != 0:
            out[at] = c
            at += 1
            made = (made ^ <unsigned char>c) * <uint64_t>0x9E3779B97F4A7C15u
            made ^= made >> 29
            p += 1
            c = SMALL[<unsigned char>p[0]] if p < end else 0
        made ^= made >> 32
        for tries in range(TRIES):
            if seen[made & mask].size == 0:
                seen[made & mask].begin, seen[made & mask].size = <uint32_t>begin, <uint32_t>(at - begin)
                break
            if seen[made & mask].size == at - begin and memcmp(out + seen[made & mask].begin, out + begin, at - begin) == 0:
                at = -1
                break
            made += 1
        if at >= 0:
            out[at] = c" "
            used = at + 1
    return used
