"""Names of secrets: what a value is by the word before it."""

from lunaroute._fast.pii_text cimport Text

cdef enum What:                 # what kind of value a name is of; what each is called is in NAMES
    NO_SECRET = 0
    PASSWORD
    PASS                        # a shorter word for it, which means other things too
    PASSPHRASE
    SECRET_VALUE
    TOKEN
    KEY
    AUTHORIZATION
    URL_PASSWORD

cdef What named(const Text *t, Py_ssize_t i, Py_ssize_t *end) noexcept nogil
