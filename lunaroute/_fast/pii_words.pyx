"""Words before a value that say what it is (`phone: 2345678901`). Imports nothing of ours but pii_text."""

from libc.stdint cimport uint8_t
from libc.string cimport memcmp, memcpy

from lunaroute._fast.pii_text cimport ALPHA, DIGIT, HIGH, LINE, LOWER, Text, UPPER, has, lower

cdef enum:
    BEFORE = 48                 # bytes that are looked at
    WORDS_MAX = 192
    WORD_MAX = 24

# A word with * also stands for longer ones; one that is not ASCII also for the end or the middle of a run of letters
# (in Chinese and Japanese no space sets it off).
HINTS = {
    A_PHONE: (
        "phone* phones tel telephone* telefon* telefono* telefone* telf telno tél téléphone* teléfono* mobile* mobil"
        " mobilnummer mobiltelefon cell cellphone* fax* call calling dial* ring sms whatsapp whats handy* rufnummer*"
        " celular* movil móvil* portable landline* hotline* msisdn телефон* тел моб هاتف"
        " 电话 電話 手机 手機 携帯 전화 연락처 फोन फ़ोन मोबाइल"
    ),
    AN_SSN: "ssn* ssns social socialsecurity* sozialversicherung*",
    A_CARD: (
        "card* cards cc ccn ccnum cvc cvv pan visa mastercard amex maestro discover diners jcb unionpay mir rupay"
        " credit creditcard* debit charge charged pay paid payment* karte* kreditkarte* kartennummer carte tarjeta*"
        " cartao cartão карта* карты 卡号 银行卡"
    ),
    AN_ADDRESS: (
        "ip ips ipv ipaddr* ipaddress* host* server* addr* dns nameserver* resolver* ping client* remote* peer*"
        " gateway* inet subnet* cidr proxy* forwarded src dst source destination connect* listen* bind from"
    ),
    A_VERSION: (
        "version* ver release* released section* sec chapter* clause* appendix* build rev revision* upgrade* update*"
        " rfc oid identifier* annex table figure"
    ),
}

cdef struct Word:
    char text[WORD_MAX]
    int size
    bint longer
    bint foreign
    int hint

cdef Word[WORDS_MAX] WORDS
cdef int COUNT = 0
cdef int FIRST[257]             # the words by their first byte: those of c are FIRST[c] up to FIRST[c + 1]


cdef fill():
    global COUNT
    words = [(word.rstrip("*").encode(), "*" in word, hint) for hint, text in HINTS.items() for word in text.split()]
    words.sort()
    if len(words) > WORDS_MAX:
        raise ValueError("more words than there is room for")
    for text, longer, hint in words:
        if len(text) > WORD_MAX:
            raise ValueError(f"no room for {text!r}")
        memcpy(WORDS[COUNT].text, <const char *>text, len(text))
        WORDS[COUNT].size, WORDS[COUNT].longer, WORDS[COUNT].hint = len(text), longer, hint
        WORDS[COUNT].foreign = text[0] >= 0x80
        COUNT += 1
    for c in range(257):
        FIRST[c] = sum(1 for text, _, _ in words if text[0] < c)


fill()


cdef int hint_of(const uint8_t *word, int size) noexcept nogil:
    """What one run of letters says; lower case."""
    cdef int k, i
    for k in range(FIRST[word[0]], FIRST[word[0] + 1]):
        if WORDS[k].foreign or size < WORDS[k].size or (size > WORDS[k].size and not WORDS[k].longer):
            continue
        if memcmp(word, WORDS[k].text, WORDS[k].size) == 0:
            return WORDS[k].hint
    cdef int found = 0
    for i in range(size):
        if word[i] < 0xC0:
            continue
        for k in range(FIRST[word[i]], FIRST[word[i] + 1]):
            if WORDS[k].size <= size - i and memcmp(word + i, WORDS[k].text, WORDS[k].size) == 0:
                found |= WORDS[k].hint
    return found


cdef int hints(const Text *t, Py_ssize_t start) noexcept nogil:
    """What the words on the line before `start` say (and those of the line before where there is nothing else on it),
    BEFORE bytes back, the context before the text among them."""
    cdef uint8_t seen[2 * BEFORE + 1]
    cdef uint8_t word[2 * BEFORE + 1]
    cdef Py_ssize_t inside = start if start < BEFORE else BEFORE
    cdef Py_ssize_t outside = 0 if inside == BEFORE else t.context_n if t.context_n < BEFORE else BEFORE
    cdef Py_ssize_t n, i, first = 0, line = 0
    cdef bint blank = True
    cdef int found = 0, size, this = 0
    if outside:
        memcpy(seen, t.context + t.context_n - outside, outside)
        seen[outside] = c":"
        outside += 1
    n = outside + inside
    memcpy(seen + outside, t.p + start - inside, inside)
    i = n
    while i > 0:
        i -= 1
        if has(seen[i], LINE) and not blank:
            first = i
            break
        if has(seen[i], ALPHA | DIGIT | HIGH):
            blank = False
    for i in range(n):
        if has(seen[i], LINE):
            line = i
    i = first
    while i < n:
        if not has(seen[i], ALPHA | HIGH):
            i += 1
            continue
        size = 0
        while i < n and has(seen[i], ALPHA | HIGH):
            # phoneNumber: two words; TELNumber is left as it is
            if size and has(seen[i], UPPER) and has(seen[i - 1], LOWER):
                break
            word[size] = lower(seen[i])
            size += 1
            i += 1
        this = hint_of(word, size) if i > line else hint_of(word, size) & ~A_VERSION
        found |= this
        # a number is a phone's where it is mine
        if size == 6 and i >= 9 + first and memcmp(seen + i - 8, b"y number", 8) == 0:
            found |= A_PHONE
    return found | (AT_ONCE if this & A_VERSION else 0)
