"""Payment cards, social security numbers, IBANs."""

from lunaroute._fast.pii_digits cimport Number
from lunaroute._fast.pii_text cimport Span, Text

cdef bint card(const Text *t, const Number *num, Py_ssize_t last, Span *found) noexcept nogil
cdef bint ssn(const Text *t, const Number *num, Py_ssize_t last, Span *found) noexcept nogil
cdef Py_ssize_t iban(const Text *t, Py_ssize_t i, Span *found) noexcept nogil
