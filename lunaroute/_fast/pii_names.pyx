"""Names of secrets: what a value is by the word before it. Imports nothing of ours but pii_text.

The last word of a name decides: `secret_key` is one, `key_id` is none, `tokens` are counted.
"""

from libc.stdint cimport uint8_t

from lunaroute._fast.pii_text cimport (
    ALPHA, DASH, DIGIT, DOT, HIGH, LOWER, UNDER, UPPER, WORD, Text, at, escaped, has, run, run_at_most, run_back,
    starts,
)

NAMES = ["", "password", "password", "password", "secret", "token", "secret_key", "authorization", "url_password"]

# Last words, longer ones before what they begin with. The second column: only where a word begins there, since
# `encompass` and `oauth` have them too; but `dbpassword` is a password.
LAST_WORDS = (
    (b"password", False, PASSWORD),
    (b"passwort", False, PASSWORD),
    (b"passcode", False, PASSWORD),
    (b"passphrase", False, PASSPHRASE),
    (b"passwd", False, PASSWORD),
    (b"pass", True, PASS),
    (b"pwd", False, PASS),
    (b"secret", False, SECRET_VALUE),
    (b"credentials", False, SECRET_VALUE),
    (b"credential", False, SECRET_VALUE),
    (b"creds", False, SECRET_VALUE),
    (b"token", False, TOKEN),
    (b"key", False, KEY),
    (b"authorization", False, AUTHORIZATION),
    (b"auth", True, TOKEN),
    (b"sig", True, KEY),                        # of shared access signatures
)
# What must stand before `key`: without one of them it is a map's, a table's or a keyboard's.
KEYS = (
    b"api", b"secret", b"private", b"access", b"encryption", b"encrypt", b"auth", b"master", b"signing", b"service",
    b"account", b"shared", b"client", b"subscription", b"admin", b"application", b"deploy", b"jwt", b"hmac", b"aes",
    b"storage", b"webhook", b"license", b"decryption", b"server", b"consumer", b"ssh", b"rapidapi", b"integration",
    b"ingest", b"function", b"functions", b"signature", b"security", b"app", b"root", b"write", b"maps", b"cipher",
    b"symmetric",
)
# What makes a token none: where a list goes on, what a model reads, what makes a request unique.
NO_TOKENS = (
    b"page", b"next", b"continuation", b"sync", b"cursor", b"pagination", b"eos", b"bos", b"pad", b"unk", b"mask",
    b"sep", b"cls", b"csrf", b"xsrf", b"cancellation", b"cancel", b"public", b"start", b"stop", b"output", b"input",
    b"request", b"idempotency", b"change", b"lock", b"starting", b"marker", b"reservation",
)

cdef enum:
    ROOM = 48

cdef struct Word:
    const char *text
    int size
    bint first
    What what

cdef Word[ROOM] LAST, BEFORE_KEY, BEFORE_NO_TOKEN
cdef int LASTS = len(LAST_WORDS)


cdef fill(Word *list_, rows):
    """The rows, and a row of size 0 behind them. The bytes stay: they are constants of this module."""
    if len(rows) >= ROOM:
        raise ValueError("more words than there is room for")
    for number, row in enumerate(rows):
        list_[number].text, list_[number].size = row[0], len(row[0])
        list_[number].first, list_[number].what = row[1], row[2]


fill(LAST, LAST_WORDS)
fill(BEFORE_KEY, [(word, False, NO_SECRET) for word in KEYS])
fill(BEFORE_NO_TOKEN, [(word, False, NO_SECRET) for word in NO_TOKENS])


cdef bint begins(const Text *t, Py_ssize_t i) noexcept nogil:
    """Whether a word of a name begins at i: aB, a_b, a.b."""
    return i == 0 or not has(t.p[i - 1], ALPHA) or (has(t.p[i - 1], LOWER) and has(t.p[i], UPPER)) or escaped(t, i)


cdef bint preceded(const Text *t, Py_ssize_t i, const Word *words) noexcept nogil:
    """Whether one of these words ends before i, with or without one of _ - . or a blank between."""
    cdef Py_ssize_t start
    if i > 0 and (has(t.p[i - 1], UNDER | DASH | DOT) or t.p[i - 1] == c" "):
        i -= 1
    while words.size:
        start = i - words.size
        # the `app` of `map` is none
        if starts(t, start, words.text, words.size) and (words.size > 3 or begins(t, start)):
            return True
        words += 1
    return False


cdef What named(const Text *t, Py_ssize_t i, Py_ssize_t *end) noexcept nogil:
    """Of what the name is whose last word begins at i, and where it ends."""
    cdef const Word *word = LAST
    cdef Py_ssize_t k = run_back(t, i, WORD | DASH, 64)
    # a type (Aws::Secret) or a part of something with colons (arn:...:secret:name); but not //registry/:_authToken
    if at(t, k - 1) == c":" and (has(at(t, k - 2), WORD) or at(t, k - 2) == c":"):
        return NO_SECRET
    while word.size and not (starts(t, i, word.text, word.size) and (not word.first or begins(t, i))):
        word += 1
    if word.what == KEY and word.text[0] == c"k" and not preceded(t, i, BEFORE_KEY):
        return NO_SECRET
    if word.what == TOKEN and word.text[0] == c"t" and preceded(t, i, BEFORE_NO_TOKEN):
        return NO_SECRET
    k = i + word.size
    # password2, secret_1, passwordConfirm are names of their kind; password_field and tokens are not
    if has(at(t, k), UNDER | DASH) and has(at(t, k + 1), DIGIT):
        k += 1
    k = run_at_most(t, k, DIGIT, 4)
    if starts(t, k + (at(t, k) == c"_"), b"confirm", 7):
        k = run(t, k, WORD)
    end[0] = k
    if has(at(t, k), WORD | HIGH) or at(t, k) == c"-" and at(t, k + 1) != c"-":
        return NO_SECRET
    return word.what
